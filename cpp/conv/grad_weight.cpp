// The weight's gradient, dW[o][i, tap] = sum over pixels of gy[o][pixel] * x[i][pixel moved by tap].
//
// dW of a group is a matrix, output channels x columns (an image channel and a tap each), every element a sum over the
// pixels of the batch. The matrix is cut into cells, the pixels into blocks of some rows of some images. A task sums
// one cell over a run of blocks and shares nothing with others. Where there are few cells (stems, first layers) the
// blocks are dealt to a fixed number of parts, whose sums are added at the end, in order. Sizes alone decide the cut.
//
// Complex numbers: the two parts are channels of their own, and real sums are counted in output channel o and column
// (channel / parts, tap, channel % parts). The four real sums of a weight are joined when dW is written.
#include "grad_weight.hpp"
#include <cstring>
#include "direct.hpp"
#include "stage.hpp"
#include "winograd.hpp"

namespace konv::grad_weight {
namespace {

// Output channels [output, output + outputs) and image channels [channel, channel + channels) of a group, all taps.
struct Cell { index group, output, outputs, channel, channels; };

// The largest cell and block, and what a task needs for them.
struct Cut {
  index outputs, channels;      // of a cell; channels: whole elements
  index images, rows, columns;  // of a block
  index sums;                   // T of a cell
  index scratch;                // bytes besides
};

// Tile, a way to sum a cell over a block (DenseTile or DepthwiseTile), has
//   Cut cut() const
//   void add(const Cell&, const Block&, bool first, T* sums, T* scratch) const    first: sums hold nothing yet
//   void write(const Cell&, T* sums, T* scratch) const                            sums into dW; overwrites them
template <class T, class Tile> class Driver {
 public:
  explicit Driver(const GradWeightCall& call)
      : call_(call), tile_(call), cut_(tile_.cut()), grid_(call.g, call.n, cut_.images, cut_.rows, cut_.columns) {
    const Geometry& g = call.g;
    output_cells_ = ceil_div(g.group_oc(), cut_.outputs), channel_cells_ = ceil_div(g.group_c(), cut_.channels);
    cells_ = g.groups * output_cells_ * channel_cells_;
    sums_ = round_up(cut_.sums, 16);
    const index pixels = call.n * g.oh * g.ow, room = parts_bytes / (cells_ * sums_ * index{sizeof(T)});
    parts_ = std::max<index>(1, std::min({ceil_div(target_tasks, cells_), pixels / least_part, room, grid_.count}));
  }

  void run() const {
    const index shared = parts_ > 1 ? cells_ * parts_ * sums_ * index{sizeof(T)} : 0;
    const index slot = sums_ * index{sizeof(T)} + cut_.scratch;
    const index budget = scratch_limit(call_.g, call_.x.scalar, call_.n);
    const index tasks = cells_ * parts_, threads = std::min<index>(num_threads(), tasks);
    const int slots = static_cast<int>(std::clamp<index>((budget - shared) / slot, 1, threads));
    const Workspace memory(shared, round_up(slot, 64), slots);
    parallel_for(tasks, [&](index task, int id) {
      const index part = task % parts_, first = grid_.count * part / parts_, end = grid_.count * (part + 1) / parts_;
      T *scratch = memory.slot<T>(id) + sums_, *sums = parts_ > 1 ? memory.shared<T>() + task * sums_ : scratch - sums_;
      const Cell cell = cell_of(task / parts_);
      for (index b = first; b < end; b++) tile_.add(cell, grid_.at(b), b == first, sums, scratch);
      if (parts_ == 1) tile_.write(cell, sums, scratch);
    }, slots);
    if (parts_ == 1) return;
    parallel_for(cells_, [&](index cell, int id) {
      T* sums = memory.shared<T>() + cell * parts_ * sums_;
      for (index j = 0; j < cut_.sums; j++) {
        double total = 0;
        for (index p = 0; p < parts_; p++) total += static_cast<double>(sums[p * sums_ + j]);
        sums[j] = static_cast<T>(total);
      }
      tile_.write(cell_of(cell), sums, memory.slot<T>(id) + sums_);
    }, slots);
  }
 private:
  static constexpr index target_tasks = 16;
  static constexpr index least_part = 512;       // pixels worth a part of their own
  static constexpr index parts_bytes = 4 << 20;  // the sums of all parts together

  Cell cell_of(index cell) const {
    const Geometry& g = call_.g;
    const index channel = cell % channel_cells_ * cut_.channels;
    const index output = cell / channel_cells_ % output_cells_ * cut_.outputs;
    return {cell / channel_cells_ / output_cells_, output, std::min(cut_.outputs, g.group_oc() - output), channel,
            std::min(cut_.channels, g.group_c() - channel)};
  }

  const GradWeightCall& call_;
  const Tile tile_;
  const Cut cut_;
  const Grid grid_;                             // of the pixels
  index output_cells_, channel_cells_, cells_;  // of dW
  index sums_;                                  // T of a cell, on whole cache lines
  index parts_;
};

// ---- output channels in the lanes ----------------------------------------------------------------------------------
// A cell is at most 128 output channels x about 288 columns, a block some hundred pixels:
//     gy  channels x rows   --transpose-->  u[panel][pixel][width]           L2; a panel is two vectors of channels
//     x   channels x rows   --stage------>  x[channel][image][row][column]   L2; or the image, when it has no padding
//     for 14 columns:  for each panel:  D[panel][column][width] += u * x     x stays in L1, u streams from L2
// and at the end D is transposed into dW. A pixel is a broadcast scalar, so short rows, strides and taps cost no lanes.
constexpr index most_outputs = 128, target_columns = 288;
constexpr index gy_block_bytes = 128 << 10, x_block_bytes = 384 << 10;

template <class T> class DenseTile {
 public:
  explicit DenseTile(const GradWeightCall& call)
      : call_(call), g_(call.g), tiles_(call.isa.tiles.template of<T>()), gy_(call.isa, call.gy, PadMode::zeros),
        writer_(call), cut_(cut_of(call)),
        x_(call.isa, call.x, g_, {g_, call.n, cut_.images, cut_.rows, cut_.columns}, g_.kh, false) {
    const index pixels = cut_.images * cut_.rows * cut_.columns, columns = cut_.channels * g_.taps();
    u_ = round_up(cut_.outputs, lanes()) * pixels;
    staged_ = round_up(cut_.channels * x_.channel_size(), 16);
    const index rows = std::max(2 * pixels, columns) * lanes();  // of gy, of dW; places of pixels
    cut_.scratch = (u_ + staged_ + rows) * index{sizeof(T)};
    for (index c = 0; c < cut_.channels; c += call.x.parts)
      for (index a = 0; a < g_.kh; a++)
        for (index b = 0; b < g_.kw; b++)
          for (index part = 0; part < call.x.parts; part++)
            columns_.push_back({x_.steps.channel(c + part, call.x.parts) + a * x_.steps.tap_row + b * x_.steps.tap,
                                std::ssize(columns_)});
  }

  Cut cut() const { return cut_; }

  void add(const Cell& cell, const Block& b, bool first, T* sums, T* u) const {
    load_gy(cell, b, u, u + u_ + staged_);
    const T* x = x_.load(u + u_, b, cell.group * g_.group_c() + cell.channel, cell.channels);
    Place* place = reinterpret_cast<Place*>(u + u_ + staged_);  // the rows of gy are done with
    const index pixels = x_.places(b, {0, g_.oh}, {0, g_.ow}, place);
    const index columns = cell.channels * g_.taps(), tiles = ceil_div(columns, index{tiles_.o_columns});
    for (index i = 0, t = 0, count; i < tiles; i++, t += count) {
      count = ceil_div(columns - t, tiles - i);  // tiles as equal as can be
      for (index p = 0; p < cell.outputs; p += 2 * lanes()) {
        const index width = vectors(cell, p) * lanes();
        T* d = sums + p * columns;
        tiles_.output_lane_at(vectors(cell, p), count,
                              {pixels, u + p * pixels, d, width, first ? no_sums<T> : d, first ? 0 : width}, x,
                              columns_.data() + t, place);
      }
    }
  }

  void write(const Cell& cell, T* sums, T* scratch) const {
    const index columns = cell.channels * g_.taps();
    for (index p = 0; p < cell.outputs; p += 2 * lanes())
      for (index o = p, width = vectors(cell, p) * lanes(); o < p + width; o += lanes()) {
        const index outputs = std::min(lanes(), cell.outputs - o);
        tiles_.transpose_store(sums + p * columns + o - p, width, columns, scratch, columns, static_cast<int>(outputs));
        writer_.write(scratch, columns, cell.group, cell.output + o, outputs, cell.channel, columns);
      }
  }
 private:
  static Cut cut_of(const GradWeightCall& call) {
    const Geometry& g = call.g;
    const index parts = call.x.parts, size = sizeof(T), lanes = call.isa.tiles.of<T>().lanes;
    Cut cut{};
    const index channel_cells = std::max<index>(1, g.group_c() * g.taps() / target_columns);
    cut.channels = ceil_div(g.group_c() / parts, channel_cells) * parts;
    const index output_cells = ceil_div(g.group_oc(), most_outputs);
    cut.outputs = std::min(g.group_oc(), round_up(ceil_div(g.group_oc(), output_cells), 2 * lanes));
    cut.sums = round_up(cut.outputs, lanes) * cut.channels * g.taps();

    const index cells_per_pixel = std::min(g.stride_h * g.stride_w, g.taps());
    const index by_gy = gy_block_bytes / (round_up(cut.outputs, lanes) * size);
    const index by_x = x_block_bytes / (cut.channels * cells_per_pixel * size);
    const index most = std::clamp<index>(std::min(by_gy, by_x), 128, 1024), image = g.oh * g.ow;
    cut.images = image <= most ? std::min(call.n, most / image) : 1;
    cut.columns = ceil_div(g.ow, ceil_div(g.ow, most));
    cut.rows = ceil_div(g.oh, ceil_div(g.oh, std::max<index>(1, most / cut.columns)));
    return cut;
  }

  index lanes() const { return tiles_.lanes; }
  // Of the panel that begins at output channel p of a cell.
  int vectors(const Cell& cell, index p) const { return cell.outputs - p > lanes() ? 2 : 1; }

  // u[panel][pixel][width], zeros past the cell's last output channel.
  void load_gy(const Cell& cell, const Block& b, T* u, T* rows) const {
    for (index p = 0; p < cell.outputs; p += 2 * lanes()) {
      const index width = vectors(cell, p) * lanes(), channels = std::min(width, cell.outputs - p);
      const index o = cell.group * g_.group_oc() + cell.output + p;
      for (index n = b.n; n < b.n + b.images; n++, u += b.rows * b.columns * width)
        gy_.read_lanes(u, width, {{n, o, b.row, b.column, channels}, b.rows, b.columns}, rows);
    }
  }

  const GradWeightCall& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const RowReader<T> gy_;
  const Writer<T> writer_;
  Cut cut_;
  const Windows<T> x_;
  index u_, staged_;            // T of u and of staged x
  std::vector<Place> columns_;  // where taps lie in x
};

// ---- pixels in the lanes, for groups of few output channels --------------------------------------------------------
// A cell is one image channel (both parts of a complex one) against the output channels of its group. Blocks of rows
// are staged as in the forward pass (padded, columns split by stride phase, 24 KB, so that they stay in L1 while every
// tap walks them) and each output channel's rows of gy are read from memory, or copied when they are not rows of T:
//     D[output][tap] += sum over the block's pixels of gy * x      lanes of D are summed at the end of a block
template <class T> class DepthwiseTile {
 public:
  explicit DepthwiseTile(const GradWeightCall& call)
      : call_(call), g_(call.g), table_(call.isa.depthwise.template of<T>()), reader_(call.isa, call.x, g_.mode),
        gy_(call.isa, call.gy, PadMode::zeros), writer_(call), block_(g_, row_unit, table_.lanes, sizeof(T)) {}

  Cut cut() const {
    const index parts = call_.x.parts, scratch = (block_.size + block_.rows * block_.columns) * index{sizeof(T)};
    return {g_.group_oc(), parts, 1, block_.rows, block_.columns, g_.group_oc() * parts * g_.taps(), scratch};
  }

  void add(const Cell& cell, const Block& b, bool first, T* sums, T* scratch) const {
    const index parts = cell.channels, columns = parts * g_.taps();
    if (first) std::fill_n(sums, cell.outputs * columns, T(0));
    DepthwiseGradient<T> d{{b.rows, b.columns, g_.kh, g_.kw, block_.down.step(), block_.down.offset(1), scratch,
                            block_.across.cells(), block_.offsets.data()}};
    d.d_step = parts;
    for (index p = 0; p < parts; p++) {
      stage(reader_, scratch, block_.across.cells(), block_.down, block_.across,
            corner_of(g_, b, cell.group * g_.group_c() + cell.channel + p));
      for (index m = 0; m < cell.outputs; m++) {
        const index o = cell.group * g_.group_oc() + m;
        const T* here = gy_.in_place(b.n, o, b.row);
        T* rows = scratch + block_.size;
        if (!here) gy_.read_rows(rows, b.columns, {{b.n, o, b.row, b.column}, b.rows, b.columns});
        d.y = here ? here + b.column : rows, d.y_pitch = here ? call_.gy.sh : b.columns;
        d.d = sums + m * columns + p;
        table_.gradient(d);
      }
    }
  }

  void write(const Cell& cell, T* sums, T*) const {
    const index columns = cell.channels * g_.taps();
    writer_.write(sums, columns, cell.group, 0, cell.outputs, cell.channel, columns);
  }
 private:
  static constexpr index row_unit = 4;  // rows of the register tile

  const GradWeightCall& call_;
  const Geometry& g_;
  const DepthwiseTable<T>& table_;
  const RowReader<T> reader_, gy_;
  const Writer<T> writer_;
  const StagedBlock block_;
};
}  // namespace

void run(const GradWeightCall& call) {
  const Geometry& g = call.g;
  if (g.oc == 0 || g.group_c() == 0) return;
  const index elements = g.oc / call.gy.parts * g.group_c() * g.taps();
  if (call.n * g.oh * g.ow == 0) return void(std::memset(call.dw, 0, elements * scalar_bytes(call.gy.scalar)));
  GradWeightCall flat = call;
  direct::one_row(flat.g, flat.x, flat.gy);
  if (call.algorithm == GradWeight::winograd) return winograd::grad_weight(flat);
  with_floating_type(call.gy.scalar, [&]<class T>(T) {
    if (call.algorithm == GradWeight::depthwise) Driver<T, DepthwiseTile<T>>(flat).run();
    else Driver<T, DenseTile<T>>(flat).run();
  });
}
}  // namespace konv::grad_weight
