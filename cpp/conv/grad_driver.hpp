// What the ways to sum the weight's gradient share: dW and pixels cut into tasks, sums of tasks joined and written.
//
// dW of a group is a matrix, output channels x columns (an image channel and a tap each), every element a sum over the
// pixels of the batch. The matrix is cut into cells, the pixels into blocks of some rows of some images. A task sums
// one cell over a run of blocks and shares nothing with others. Where there are few cells (stems, first layers) the
// blocks are dealt to a fixed number of parts, whose sums are added at the end, in order. The cut depends on the sizes
// alone.
//
// Complex numbers: the two parts are channels of their own, and real sums are counted in output channel o and column
// (channel / parts, tap, channel % parts). The four real sums of a weight are joined when dW is written.
#pragma once
#include <algorithm>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "grad_weight.hpp"

namespace konv::grad_weight {

// Output channels [output, output + outputs) and image channels [channel, channel + channels) of a group, all taps.
struct Cell {
  index group, output, outputs, channel, channels;
};

// Rows and columns of the output in some images.
struct Block {
  index image, images, row, rows, column, columns;
  index pixels() const { return images * rows * columns; }
};

// The largest cell and block, and what a task needs for them.
struct Cut {
  index outputs, channels;      // of a cell; channels: whole elements
  index images, rows, columns;  // of a block
  index sums;                   // T of a cell
  index scratch;                // bytes besides
};

// Real sums in the compute type become elements of dW.
template <class T>
class Writer {
 public:
  explicit Writer(const GradWeightCall& call)
      : dw_(static_cast<char*>(call.dw)),
        bytes_(scalar_bytes(call.gy.scalar)),
        parts_(call.gy.parts),
        g_(call.g),
        store_(call.isa.rows<T>().store[static_cast<int>(call.gy.scalar)]) {}

  // sums[r*pitch + j] belongs to output `output + r` of the group and to the j-th of `count` columns that begin at
  // image channel `channel`. Overwrites sums.
  void write(T* sums, index pitch, index group, index output, index outputs, index channel, index count) const {
    if (parts_ == 2) join(sums, pitch, outputs, count);
    for (index r = 0; r < outputs; r += parts_) {
      const index row = (group * g_.group_oc() + output + r) / parts_;
      store_(dw_ + (row * g_.group_c() + channel) * g_.taps() * bytes_, 1, sums + r * pitch, count);
    }
  }

 private:
  // gy * conj(x): re = re*re + im*im, im = im*re - re*im, from the rows of gy's two parts into the first of them.
  static void join(T* sums, index pitch, index rows, index count) {
    for (index r = 0; r < rows; r += 2) {
      T *re = sums + r * pitch, *im = re + pitch;
      for (index j = 0; j < count; j += 2) {
        const T real = re[j] + im[j + 1], imag = im[j] - re[j + 1];
        re[j] = real, re[j + 1] = imag;
      }
    }
  }

  char* dw_;
  index bytes_, parts_;
  const Geometry& g_;
  void (*store_)(void* dst, index stride, const T* src, index count);
};

// Tile, a way to sum, has
//   Cut cut() const
//   void add(const Cell&, const Block&, bool first, T* sums, T* scratch) const    first: sums hold nothing yet
//   void write(const Cell&, T* sums, T* scratch) const                            sums into dW; overwrites them
template <class T, class Tile>
class Driver {
 public:
  explicit Driver(const GradWeightCall& call) : call_(call), tile_(call), cut_(tile_.cut()) {
    const Geometry& g = call.g;
    output_cells_ = ceil_div(g.group_oc(), cut_.outputs), channel_cells_ = ceil_div(g.group_c(), cut_.channels);
    cells_ = g.groups * output_cells_ * channel_cells_;
    row_blocks_ = ceil_div(g.oh, cut_.rows), column_blocks_ = ceil_div(g.ow, cut_.columns);
    blocks_ = ceil_div(call.n, cut_.images) * row_blocks_ * column_blocks_;
    sums_ = round_up(cut_.sums, 16);
    const index pixels = call.n * g.oh * g.ow, room = parts_bytes / (cells_ * sums_ * index{sizeof(T)});
    parts_ = std::max<index>(1, std::min({ceil_div(target_tasks, cells_), pixels / least_part, room, blocks_}));
    const index products = pixels * cut_.outputs * cut_.channels * g.taps();
    chunk_ = parts_ > 1 ? 1 : std::clamp<index>(products_per_task / products, 1, ceil_div(cells_, target_tasks));
  }

  void run() const {
    const index shared = parts_ > 1 ? cells_ * parts_ * sums_ * index{sizeof(T)} : 0;
    const index slot = sums_ * index{sizeof(T)} + cut_.scratch;
    const index budget = std::max(scratch_bytes, image_bytes(call_.g, call_.x.scalar, call_.n) / 4);
    const index tasks = ceil_div(cells_, chunk_) * parts_, threads = std::min<index>(num_threads(), tasks);
    const int slots = static_cast<int>(std::clamp<index>((budget - shared) / slot, 1, threads));
    const Workspace memory(shared, round_up(slot, 64), slots);
    const auto scratch = [&](int id) { return memory.slot<T>(id) + sums_; };
    const auto part_sums = [&](index cell, index part) { return memory.shared<T>() + (cell * parts_ + part) * sums_; };
    parallel_for(
        tasks,
        [&](index task, int id) {
          const index part = task % parts_, from = task / parts_ * chunk_;
          const index first = blocks_ * part / parts_, end = blocks_ * (part + 1) / parts_;
          for (index i = from; i < std::min(from + chunk_, cells_); i++) {
            T* sums = parts_ > 1 ? part_sums(i, part) : memory.slot<T>(id);
            const Cell cell = cell_of(i);
            for (index b = first; b < end; b++) tile_.add(cell, block_of(b), b == first, sums, scratch(id));
            if (parts_ == 1) tile_.write(cell, sums, scratch(id));
          }
        },
        slots);
    if (parts_ == 1) return;
    parallel_for(
        cells_,
        [&](index cell, int id) {
          add_parts(part_sums(cell, 0));
          tile_.write(cell_of(cell), part_sums(cell, 0), scratch(id));
        },
        slots);
  }

 private:
  static constexpr index target_tasks = 16;
  static constexpr index least_part = 512;               // pixels worth a part of their own
  static constexpr index products_per_task = 128 << 10;  // small cells are handed out several at a time
  static constexpr index parts_bytes = 4 << 20;          // the sums of all parts together
  static constexpr index scratch_bytes = 8 << 20;

  Cell cell_of(index cell) const {
    const Geometry& g = call_.g;
    const index channel = cell % channel_cells_ * cut_.channels;
    const index output = cell / channel_cells_ % output_cells_ * cut_.outputs;
    return {cell / channel_cells_ / output_cells_, output, std::min(cut_.outputs, g.group_oc() - output), channel,
            std::min(cut_.channels, g.group_c() - channel)};
  }
  Block block_of(index block) const {
    const Geometry& g = call_.g;
    const index column = block % column_blocks_ * cut_.columns;
    const index row = block / column_blocks_ % row_blocks_ * cut_.rows;
    const index image = block / column_blocks_ / row_blocks_ * cut_.images;
    return {image,  std::min(cut_.images, call_.n - image), row, std::min(cut_.rows, g.oh - row),
            column, std::min(cut_.columns, g.ow - column)};
  }

  void add_parts(T* sums) const {
    for (index j = 0; j < cut_.sums; j++) {
      double total = 0;
      for (index p = 0; p < parts_; p++) total += static_cast<double>(sums[p * sums_ + j]);
      sums[j] = static_cast<T>(total);
    }
  }

  const GradWeightCall& call_;
  const Tile tile_;
  const Cut cut_;
  index output_cells_, channel_cells_, cells_;  // of dW
  index sums_;                                  // T of a cell, on whole cache lines
  index row_blocks_, column_blocks_, blocks_;   // of the pixels
  index parts_, chunk_;                         // chunk_: cells of a task
};

}  // namespace konv::grad_weight
