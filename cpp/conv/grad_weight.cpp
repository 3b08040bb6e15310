// Driver of the weight's gradient: dW[o][i, tap] = sum over pixels of gy[o][pixel] * x[i][pixel moved by tap].
//
// It is a matrix product, output channels x columns (an image channel and a tap each), whose long side is the pixels of
// the batch. The matrix is cut into cells of at most 128 output channels and about 288 columns and, where that gives
// few cells (stems, first layers), the pixels into a fixed number of parts: a task is one cell over one part. Tasks
// share nothing; the sums of the parts are added at the end, in order. The cut depends on the sizes alone.
//
// A task goes over its pixels in blocks of some hundred:
//
//     gy  channels x rows   --transpose-->  u[panel][pixel][width]     L2; `width` output channels stand in the lanes
//     x   channels x rows   --stage------>  x[channel][row][column]    L2; or the image itself when it has no padding
//     for 14 columns:  for each panel:  D[panel][column][width] += u * x       x stays in L1, u streams from L2
//
// and at the end transposes D into dW. A pixel is a broadcast scalar, so short rows, strides and taps cost no lanes.
// With few output channels in a group it is those lanes that would be empty: see grad_depthwise.cpp.
//
// Complex numbers: the two parts are channels of their own. Columns are ordered (channel, tap, part), so that one cell
// holds the two columns of a pair, and the four real sums of a weight are joined when dW is written.
#include "grad_weight.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "grad_depthwise.hpp"
#include "grad_rows.hpp"
#include "stage.hpp"
#include "winograd.hpp"

namespace konv::grad_weight {
namespace {

constexpr index most_outputs = 128;
constexpr index target_columns = 288;
constexpr index target_tasks = 16;
constexpr index least_part = 512;       // pixels worth a part of their own
constexpr index parts_bytes = 4 << 20;  // the sums of all parts together
constexpr index scratch_bytes = 8 << 20;
constexpr index gy_block_bytes = 128 << 10;
constexpr index x_block_bytes = 384 << 10;

// Output channels [first, first + width) of a cell, as one register tile takes them.
struct Panel {
  index first, width;
};

// Tiles of two vectors, then of one, then of half a vector where there is such a thing (least < lanes).
std::vector<Panel> panels_of(index outputs, index lanes, index least) {
  std::vector<Panel> panels;
  for (index at = 0; at < outputs; at += panels.back().width) {
    const index left = outputs - at;
    index width = 2 * lanes;
    if (left <= least) width = least;
    else if (left <= lanes || (least < lanes && left <= lanes + least)) width = lanes;
    panels.push_back({at, width});
  }
  return panels;
}

struct Cell {
  index group, first_output, outputs, first_column, columns;
};

struct Block {  // pixels: rows and columns of `images` images
  index image, images, row, rows, column, columns;
  index count() const { return images * rows * columns; }
};

template <class T>
class Driver {
 public:
  explicit Driver(const GradWeightCall& call)
      : call_(call),
        g_(call.g),
        table_(call.isa.template grad_weight<T>()),
        x_(call.isa, call.x, g_.mode),
        gy_(call.isa, call.gy, PadMode::zeros),
        parts_of_x_(call.x.parts),
        in_place_(reads_in_place()) {
    cut_matrix();
    cut_pixels();
    cut_parts();
  }

  void run() {
    const index temporary = std::max(block_pixels_, cell_columns_) * 2 * table_.lanes;
    const index u = cell_outputs_ * block_pixels_, x = in_place_ ? 0 : staged_;
    const index indices = block_pixels_ + cell_columns_;
    const index slot = (u + x + temporary + sums_) * index{sizeof(T)} + round_up(indices, 8) * index{sizeof(index)};
    const index shared = parts_ > 1 ? parts_ * cells_ * sums_ * index{sizeof(T)} : 0;
    const index budget = std::max(scratch_bytes, (bytes(call_.x, g_.c) + bytes(call_.gy, g_.oc)) * call_.n / 4);
    const index threads = std::min<index>(num_threads(), cells_ * parts_);
    const int slots = static_cast<int>(std::clamp<index>((budget - shared) / slot, 1, threads));
    Workspace memory(round_up(shared, 64), round_up(slot, 64), slots);
    const auto scratch_of = [&](int id) {
      T* base = memory.slot<T>(id);
      Scratch s{base, base + u, base + u + x, base + u + x + temporary, nullptr, nullptr};
      s.row_offset = reinterpret_cast<index*>(s.sums + sums_);
      s.column_offset = s.row_offset + block_pixels_;
      return s;
    };
    parallel_for(
        cells_ * parts_,
        [&](index task, int id) {
          Scratch s = scratch_of(id);
          const index part = task % parts_, cell = task / parts_;
          if (parts_ > 1) s.sums = memory.shared<T>() + task * sums_;
          sum(cell_of(cell), blocks_ * part / parts_, blocks_ * (part + 1) / parts_, s);
          if (parts_ == 1) write(cell_of(cell), s.sums, s.temporary);
        },
        slots);
    if (parts_ == 1) return;
    parallel_for(
        cells_,
        [&](index cell, int id) {
          T* sums = memory.shared<T>() + cell * parts_ * sums_;
          add_parts(sums);
          write(cell_of(cell), sums, scratch_of(id).temporary);
        },
        slots);
  }

 private:
  struct Scratch {
    T *u, *x, *temporary, *sums;
    index *row_offset, *column_offset;
  };

  static index bytes(const ImageView& v, index channels) { return v.h * v.w * channels * scalar_bytes(v.scalar); }

  // ---- cutting: by the sizes alone ---------------------------------------------------------------------------------
  void cut_matrix() {
    columns_ = g_.group_c() * g_.taps();
    const index per_element = g_.taps() * parts_of_x_;
    const index unit = per_element <= target_columns ? per_element : parts_of_x_;
    column_cells_ = std::max<index>(1, columns_ / target_columns);
    cell_columns_ = round_up(ceil_div(columns_, column_cells_), unit);
    column_cells_ = ceil_div(columns_, cell_columns_);
    const index output_cells = ceil_div(g_.group_oc(), most_outputs);
    outputs_ = std::min(g_.group_oc(), round_up(ceil_div(g_.group_oc(), output_cells), 2 * table_.lanes));
    output_cells_ = ceil_div(g_.group_oc(), outputs_);
    cells_ = g_.groups * output_cells_ * column_cells_;
    panels_ = panels_of(outputs_, table_.lanes, table_.least_width);
    cell_outputs_ = panels_.back().first + panels_.back().width;
    sums_ = round_up(cell_outputs_ * cell_columns_ + table_.lanes, 16);
  }

  // Image channels whose taps are among `columns` columns from `first` on.
  index first_channel(index first) const { return first / (g_.taps() * parts_of_x_) * parts_of_x_; }
  index channels_of(index first, index columns) const {
    return first_channel(first + columns - 1) + parts_of_x_ - first_channel(first);
  }
  index most_channels() const {
    const index per_element = g_.taps() * parts_of_x_;
    return std::min(g_.group_c(), (ceil_div(cell_columns_, per_element) + 1) * parts_of_x_);
  }

  void cut_pixels() {
    const index size = sizeof(T), cells_per_pixel = std::min(g_.stride_h * g_.stride_w, g_.taps());
    const index by_gy = gy_block_bytes / (cell_outputs_ * size);
    const index by_x = x_block_bytes / (most_channels() * cells_per_pixel * size);
    const index most = std::clamp<index>(std::min(by_gy, by_x), 128, 1024);
    const index image = g_.oh * g_.ow;
    images_ = image <= most ? std::min(call_.n, most / image) : 1;
    block_columns_ = g_.ow <= most ? g_.ow : ceil_div(g_.ow, ceil_div(g_.ow, most));
    const index rows = std::min(g_.oh, std::max<index>(1, most / block_columns_));
    block_rows_ = ceil_div(g_.oh, ceil_div(g_.oh, rows));
    row_blocks_ = ceil_div(g_.oh, block_rows_), column_blocks_ = ceil_div(g_.ow, block_columns_);
    blocks_ = ceil_div(call_.n, images_) * row_blocks_ * column_blocks_;
    block_pixels_ = images_ * block_rows_ * block_columns_;
    const Layout layout(g_, {0, images_, 0, block_rows_, 0, block_columns_}, sizeof(T));
    staged_ = round_up(most_channels() * layout.channel, 16);
  }

  void cut_parts() {
    const index pixels = call_.n * g_.oh * g_.ow;
    const index room = parts_bytes / (cells_ * sums_ * index{sizeof(T)});
    parts_ = std::min({ceil_div(target_tasks, cells_), pixels / least_part, room, blocks_});
    parts_ = std::max<index>(parts_, 1);
  }

  Cell cell_of(index cell) const {
    const index column = cell % column_cells_ * cell_columns_;
    const index output = cell / column_cells_ % output_cells_ * outputs_;
    return {cell / column_cells_ / output_cells_, output, std::min(outputs_, g_.group_oc() - output), column,
            std::min(cell_columns_, columns_ - column)};
  }
  Block block_of(index block) const {
    const index column = block % column_blocks_ * block_columns_;
    const index row = block / column_blocks_ % row_blocks_ * block_rows_;
    const index image = block / column_blocks_ / row_blocks_ * images_;
    return {image,  std::min(images_, call_.n - image),      row, std::min(block_rows_, g_.oh - row),
            column, std::min(block_columns_, g_.ow - column)};
  }

  // ---- one task ----------------------------------------------------------------------------------------------------
  // Scalars between neighbours of a staged block: [channel][image][row][column].
  struct Layout {
    StagedAxis down, across;
    index image, channel;
    Layout(const Geometry& g, const Block& b, index size)
        : down(b.rows, g.stride_h, g.kh, g.dilation_h), across(b.columns, g.stride_w, g.kw, g.dilation_w) {
      image = down.cells * across.cells;
      channel = b.images * image;
      if (channel * size % 1024 == 0) channel += 64 / size;  // the columns of a tile would meet in few sets of L1
    }
  };

  void sum(const Cell& cell, index first, index last, const Scratch& s) const {
    for (index b = first; b < last; b++) {
      const Block block = block_of(b);
      transpose_gy(cell, block, s);
      const T* x = in_place_ ? find_x(cell, block, s) : stage_x(cell, block, s);
      const index step = in_place_ ? g_.stride_w * call_.x.sw : Layout(g_, block, sizeof(T)).across.step;
      const index tiles = ceil_div(cell.columns, table_.columns);
      for (index i = 0, t = 0, columns; i < tiles; i++, t += columns) {
        columns = ceil_div(cell.columns - t, tiles - i);  // tiles as equal as can be
        for (const Panel& p : panels_) {
          if (p.first >= cell.outputs) break;
          table_.tile(p.width, columns, b == first,
                      {block.images * block.rows, block.columns, s.u + p.first * block.count(), x, s.row_offset,
                       s.column_offset + t, step, s.sums + p.first * cell.columns + t * p.width});
        }
      }
    }
  }

  // u[panel][pixel][width], zeros past the cell's last output channel.
  void transpose_gy(const Cell& cell, const Block& b, const Scratch& s) const {
    const bool direct =
        call_.gy.parts == 1 && gy_.in_place(0, 0, 0) && (b.rows == 1 || (b.columns == g_.ow && call_.gy.sh == g_.ow));
    const index pixels = b.rows * b.columns;
    for (const Panel& p : panels_) {
      if (p.first >= cell.outputs) break;
      const index o = cell.group * g_.group_oc() + cell.first_output + p.first;
      const int channels = static_cast<int>(std::min(p.width, cell.outputs - p.first));
      T* u = s.u + p.first * b.count();
      for (index image = 0; image < b.images; image++, u += pixels * p.width) {
        const index n = b.image + image;
        const T* rows = direct ? gy_.in_place(n, o, b.row) + b.column : s.temporary;
        if (!direct)
          for (index l = 0; l < channels; l++)
            gy_.read_rows(s.temporary + l * pixels, b.columns, n, o + l, b.row, 1, b.rows, b.column, 1, b.columns);
        table_.transpose_load(rows, direct ? call_.gy.sc : pixels, pixels, channels, u, p.width);
      }
    }
  }

  const T* stage_x(const Cell& cell, const Block& b, const Scratch& s) const {
    const Layout l(g_, b, sizeof(T));
    const index c0 = first_channel(cell.first_column), channels = channels_of(cell.first_column, cell.columns);
    const index top = b.row * g_.stride_h - g_.pad_top, left = b.column * g_.stride_w - g_.pad_left;
    for (index c = 0; c < channels; c++)
      for (index image = 0; image < b.images; image++)
        for (index i = 0; i < l.down.runs(); i++)
          for (index j = 0; j < l.across.runs(); j++) {
            T* dst = s.x + c * l.channel + image * l.image + i * b.rows * l.across.cells + j * b.columns;
            x_.read_rows(dst, l.across.cells, b.image + image, cell.group * g_.group_c() + c0 + c,
                         top + i * g_.dilation_h, l.down.source_step(), l.down.run_cells(), left + j * g_.dilation_w,
                         l.across.source_step(), l.across.run_cells());
          }
    for (index image = 0, k = 0; image < b.images; image++)
      for (index r = 0; r < b.rows; r++) s.row_offset[k++] = image * l.image + r * l.down.step * l.across.cells;
    column_offsets(cell, s, [&](index c, index a, index t) {
      return (c - c0) * l.channel + a * l.down.tap * l.across.cells + t * l.across.tap;
    });
    return s.x;
  }

  // The image itself: no padding to fill in, values of T.
  bool reads_in_place() const {
    const index last_row = (g_.oh - 1) * g_.stride_h + (g_.kh - 1) * g_.dilation_h - g_.pad_top;
    const index last_column = (g_.ow - 1) * g_.stride_w + (g_.kw - 1) * g_.dilation_w - g_.pad_left;
    const bool inside = g_.pad_top <= 0 && g_.pad_left <= 0 && last_row < g_.h && last_column < g_.w;
    const bool same_sets = call_.x.sc * index{sizeof(T)} % 1024 == 0 && call_.x.sc != 0;  // see Layout
    return inside && !same_sets && call_.x.scalar == scalar_of<T>;
  }
  const T* find_x(const Cell& cell, const Block& b, const Scratch& s) const {
    const ImageView& v = call_.x;
    const index c0 = cell.group * g_.group_c();
    const T* origin = static_cast<const T*>(v.plane(b.image, c0)) + (b.row * g_.stride_h - g_.pad_top) * v.sh +
                      (b.column * g_.stride_w - g_.pad_left) * v.sw;
    for (index image = 0, k = 0; image < b.images; image++)
      for (index r = 0; r < b.rows; r++) s.row_offset[k++] = image * v.sn + r * g_.stride_h * v.sh;
    column_offsets(cell, s, [&](index c, index a, index t) {
      return c / v.parts * v.sc + c % v.parts + a * g_.dilation_h * v.sh + t * g_.dilation_w * v.sw;
    });
    return origin;
  }

  // offset(channel of the group, row of the kernel, column of the kernel) for each column of the cell.
  template <class Offset>
  void column_offsets(const Cell& cell, const Scratch& s, Offset offset) const {
    for (index j = 0; j < cell.columns; j++) {
      const index at = cell.first_column + j, part = at % parts_of_x_, tap = at / parts_of_x_ % g_.taps();
      s.column_offset[j] = offset(at / parts_of_x_ / g_.taps() * parts_of_x_ + part, tap / g_.kw, tap % g_.kw);
    }
  }

  // ---- results -----------------------------------------------------------------------------------------------------
  void add_parts(T* sums) const {
    for (index j = 0; j < sums_; j++) {
      double total = 0;
      for (index p = 0; p < parts_; p++) total += static_cast<double>(sums[p * sums_ + j]);
      sums[j] = static_cast<T>(total);
    }
  }

  void write(const Cell& cell, const T* sums, T* temporary) const {
    const WeightGradWriter<T> out(call_.isa, call_.dw, call_.gy.scalar, parts_of_x_, columns_);
    const auto transpose = call_.isa.template tiles<T>().transpose_store;
    for (const Panel& p : panels_)
      for (index l = 0; l < p.width && p.first + l < cell.outputs; l += table_.lanes) {
        const index o = cell.group * g_.group_oc() + cell.first_output + p.first + l;
        const index outputs = std::min({index{table_.lanes}, p.width - l, cell.outputs - p.first - l});
        T* direct = out.in_place(o, cell.first_column);
        transpose(sums + p.first * cell.columns + l, p.width, cell.columns, direct ? direct : temporary,
                  direct ? columns_ : cell_columns_, static_cast<int>(outputs));
        if (!direct) out.write(temporary, cell_columns_, outputs, o, cell.first_column, cell.columns);
      }
  }

  const GradWeightCall& call_;
  const Geometry& g_;
  const GradWeightTable<T>& table_;
  const RowReader<T> x_, gy_;
  const int parts_of_x_;
  const bool in_place_;
  index columns_, column_cells_, cell_columns_;                 // of one group; its cells
  index outputs_, output_cells_, cells_, cell_outputs_, sums_;  // cell_outputs_: whole panels
  std::vector<Panel> panels_;
  index images_, block_rows_, block_columns_, row_blocks_, column_blocks_, blocks_, block_pixels_, staged_;
  index parts_;
};

template <class T>
void run_winograd(const GradWeightCall& call) {
  const Geometry& g = call.g;
  const index count = g.oc * g.group_c() * g.taps();
  const auto into = [&](T* dw) { winograd::grad_weight<T>(g, call.tile, call.isa, call.x, call.gy, call.n, dw); };
  if (scalar_bytes(call.gy.scalar) == sizeof(T)) return into(static_cast<T*>(call.dw));
  std::vector<T> dw(count);
  into(dw.data());
  call.isa.rows<T>().store[static_cast<int>(call.gy.scalar)](call.dw, 1, dw.data(), count);
}

// A 1x1 kernel over whole planes sees one long row.
GradWeightCall one_row(const GradWeightCall& call, Geometry& g) {
  GradWeightCall flat{g, call.isa, call.x, call.gy, call.n, call.dw, call.algorithm};
  const bool same = g.taps() == 1 && g.h == g.oh && g.w == g.ow && g.stride_h == 1 && g.stride_w == 1 &&
                    g.pad_top == 0 && g.pad_left == 0;
  if (!same || call.x.sh != g.w * call.x.sw || call.gy.sh != g.w * call.gy.sw) return flat;
  g.w = g.ow = g.w * g.h, g.h = g.oh = 1;
  flat.x.w = flat.gy.w = g.w, flat.x.h = flat.gy.h = 1;
  return flat;
}

}  // namespace

template <class T>
void run(const GradWeightCall& call) {
  Geometry g = call.g;
  if (g.oc == 0 || g.group_c() == 0) return;
  if (call.n == 0 || g.oh == 0 || g.ow == 0) {
    std::memset(call.dw, 0, g.oc / call.gy.parts * g.group_c() * g.taps() * scalar_bytes(call.gy.scalar));
    return;
  }
  if (call.algorithm == GradWeight::winograd) return run_winograd<T>(call);
  const GradWeightCall flat = one_row(call, g);
  if (call.algorithm == GradWeight::depthwise) grad_depthwise::run<T>(flat);
  else Driver<T>(flat).run();
}

template void run<float>(const GradWeightCall&);
template void run<double>(const GradWeightCall&);

}  // namespace konv::grad_weight

namespace konv {

template <class T>
void grad_bias(const IsaTable& isa, const ImageView& gy, index n, index channels, void* db) {
  const RowReader<T> rows(isa, gy, PadMode::zeros);
  const auto sum = isa.grad_weight<T>().sum;
  const auto store = isa.rows<T>().store[static_cast<int>(gy.scalar)];
  const bool plane = gy.plane_contiguous() && rows.in_place(0, 0, 0);
  const int slots =
      static_cast<int>(std::min<index>({num_threads(), channels, 1 + n * channels * gy.h * gy.w / 32768}));
  Workspace scratch(0, round_up(std::max<index>(gy.w, 1) * index{sizeof(T)}, 64), std::max(slots, 1));
  parallel_for(
      channels,
      [&](index c, int slot) {
        double total = 0;
        for (index image = 0; image < n; image++) {
          if (plane) {
            total += sum(rows.in_place(image, c, 0), gy.h * gy.w);
            continue;
          }
          T* row = scratch.slot<T>(slot);
          for (index r = 0; r < gy.h; r++) {
            rows.read(row, image, c, r, 0, 1, gy.w);
            total += sum(row, gy.w);
          }
        }
        const T value = static_cast<T>(total);
        store(static_cast<char*>(db) + c * scalar_bytes(gy.scalar), 1, &value, 1);
      },
      std::max(slots, 1));
}

template void grad_bias<float>(const IsaTable&, const ImageView&, index, index, void*);
template void grad_bias<double>(const IsaTable&, const ImageView&, index, index, void*);

}  // namespace konv
