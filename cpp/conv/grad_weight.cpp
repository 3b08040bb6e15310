// The weight's gradient, dW[o][i, tap] = sum over pixels of gy[o][pixel] * x[i][pixel moved by tap], with output
// channels in the lanes (grad_driver.hpp: tasks).
//
// A cell is at most 128 output channels x about 288 columns, a block some hundred pixels:
//
//     gy  channels x rows   --transpose-->  u[panel][pixel][width]           L2; a panel is two vectors of channels
//     x   channels x rows   --stage------>  x[channel][image][row][column]   L2; or the image, when it has no padding
//     for 14 columns:  for each panel:  D[panel][column][width] += u * x     x stays in L1, u streams from L2
//
// and at the end D is transposed into dW. A pixel is a broadcast scalar, so short rows, strides and taps cost no lanes.
// With few output channels in a group it is those lanes that would be empty: see grad_depthwise.hpp.
#include "grad_weight.hpp"

#include <cstring>
#include <vector>

#include "grad_depthwise.hpp"
#include "grad_driver.hpp"
#include "rows.hpp"
#include "stage.hpp"
#include "winograd.hpp"

namespace konv::grad_weight {
namespace {

constexpr index most_outputs = 128;
constexpr index target_columns = 288;
constexpr index gy_block_bytes = 128 << 10;
constexpr index x_block_bytes = 384 << 10;

template <class T>
class DenseTile {
 public:
  explicit DenseTile(const GradWeightCall& call)
      : call_(call),
        g_(call.g),
        table_(call.isa.template grad_weight<T>()),
        tiles_(call.isa.template tiles<T>()),
        reader_(call.isa, call.x, g_.mode),
        gy_(call.isa, call.gy, PadMode::zeros),
        writer_(call),
        cut_(cut_of(call)),
        down_(cut_.rows, g_.stride_h, g_.kh, g_.dilation_h),
        across_(cut_.columns, g_.stride_w, g_.kw, g_.dilation_w),
        in_place_(reads_in_place()),
        x_(in_place_ ? image_steps() : staged_steps()) {
    const index pixels = cut_.images * cut_.rows * cut_.columns, columns = cut_.channels * g_.taps();
    u_ = round_up(cut_.outputs, lanes()) * pixels;
    staged_ = in_place_ ? 0 : round_up(cut_.channels * x_.part, 16);
    const index rows = std::max(2 * pixels, columns) * lanes();
    cut_.scratch = (u_ + staged_ + rows) * index{sizeof(T)};
    for (index image = 0; image < cut_.images; image++)
      for (index r = 0; r < cut_.rows; r++) row_offset_.push_back(image * x_.image + r * x_.row);
    for (index c = 0; c < cut_.channels / call.x.parts; c++)
      for (index a = 0; a < g_.kh; a++)
        for (index b = 0; b < g_.kw; b++)
          for (index part = 0; part < call.x.parts; part++)
            column_offset_.push_back(c * x_.element + part * x_.part + a * x_.tap_row + b * x_.tap);
  }

  Cut cut() const { return cut_; }

  void add(const Cell& cell, const Block& b, bool first, T* sums, T* scratch) const {
    T* u = scratch;
    load_gy(cell, b, u, u + u_ + staged_);
    const T* x = in_place_ ? find_x(cell, b) : stage_x(cell, b, u + u_);
    const index columns = cell.channels * g_.taps(), tiles = ceil_div(columns, table_.columns);
    for (index i = 0, t = 0, count; i < tiles; i++, t += count) {
      count = ceil_div(columns - t, tiles - i);  // tiles as equal as can be
      for (index p = 0; p < cell.outputs; p += 2 * lanes())
        table_.tile(vectors(cell, p), count, first,
                    {b.images * b.rows, b.columns, u + p * b.pixels(), x, row_offset_.data(), column_offset_.data() + t,
                     x_.column, sums + p * columns + t * vectors(cell, p) * lanes()});
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
    const index parts = call.x.parts, size = sizeof(T), lanes = call.isa.grad_weight<T>().lanes;
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
    const index rows = std::min(g.oh, std::max<index>(1, most / cut.columns));
    cut.rows = ceil_div(g.oh, ceil_div(g.oh, rows));
    return cut;
  }

  index lanes() const { return table_.lanes; }
  // Of the panel that begins at output channel p of a cell.
  int vectors(const Cell& cell, index p) const { return cell.outputs - p > lanes() ? 2 : 1; }

  // u[panel][pixel][width], zeros past the cell's last output channel.
  void load_gy(const Cell& cell, const Block& b, T* u, T* rows) const {
    const bool one_run = b.rows == 1 || call_.gy.sh == b.columns;
    const bool direct = one_run && call_.gy.parts == 1 && gy_.in_place(0, 0, 0);
    const index pixels = b.rows * b.columns;
    for (index p = 0; p < cell.outputs; p += 2 * lanes()) {
      const index width = vectors(cell, p) * lanes(), channels = std::min(width, cell.outputs - p);
      const index o = cell.group * g_.group_oc() + cell.output + p;
      for (index n = b.image; n < b.image + b.images; n++, u += pixels * width) {
        if (!direct)
          for (index l = 0; l < channels; l++)
            gy_.read_rows(rows + l * pixels, b.columns, n, o + l, b.row, 1, b.rows, b.column, 1, b.columns);
        tiles_.transpose_load(direct ? gy_.in_place(n, o, b.row) + b.column : rows, direct ? call_.gy.sc : pixels,
                              pixels, static_cast<int>(channels), u, width);
      }
    }
  }

  // Scalars of x between neighbours: images, elements and parts of channels, outputs and taps of each axis.
  struct Steps {
    index image, element, part, row, tap_row, column, tap;
  };
  Steps staged_steps() const {
    const index image = down_.cells * across_.cells, parts = call_.x.parts;
    index channel = cut_.images * image;
    if (channel * sizeof(T) % 1024 == 0) channel += 64 / sizeof(T);  // columns of a tile would meet in few sets of L1
    return {image,        parts * channel, channel, down_.step * across_.cells, down_.tap * across_.cells,
            across_.step, across_.tap};
  }
  Steps image_steps() const {
    const ImageView& v = call_.x;
    return {v.sn, v.sc, 1, g_.stride_h * v.sh, g_.dilation_h * v.sh, g_.stride_w * v.sw, g_.dilation_w * v.sw};
  }

  // The image itself: no padding to fill in, values of T.
  bool reads_in_place() const {
    const index last_row = (g_.oh - 1) * g_.stride_h + (g_.kh - 1) * g_.dilation_h - g_.pad_top;
    const index last_column = (g_.ow - 1) * g_.stride_w + (g_.kw - 1) * g_.dilation_w - g_.pad_left;
    const bool inside = g_.pad_top <= 0 && g_.pad_left <= 0 && last_row < g_.h && last_column < g_.w;
    const bool same_sets = call_.x.sc * index{sizeof(T)} % 1024 == 0 && call_.x.sc != 0;  // see staged_steps
    return inside && !same_sets && call_.x.scalar == scalar_of<T>;
  }
  const T* find_x(const Cell& cell, const Block& b) const {
    const ImageView& v = call_.x;
    return static_cast<const T*>(v.plane(b.image, cell.group * g_.group_c() + cell.channel)) +
           (b.row * g_.stride_h - g_.pad_top) * v.sh + (b.column * g_.stride_w - g_.pad_left) * v.sw;
  }

  // One run of rows or columns after the other where taps have runs of their own.
  const T* stage_x(const Cell& cell, const Block& b, T* x) const {
    const index top = b.row * g_.stride_h - g_.pad_top, left = b.column * g_.stride_w - g_.pad_left;
    for (index c = 0; c < cell.channels; c++)
      for (index image = 0; image < b.images; image++)
        for (index i = 0; i < down_.runs(); i++)
          for (index j = 0; j < across_.runs(); j++)
            reader_.read_rows(x + c * x_.part + image * x_.image + i * cut_.rows * across_.cells + j * cut_.columns,
                              across_.cells, b.image + image, cell.group * g_.group_c() + cell.channel + c,
                              top + i * g_.dilation_h, down_.source_step(), down_.run_cells(), left + j * g_.dilation_w,
                              across_.source_step(), across_.run_cells());
    return x;
  }

  const GradWeightCall& call_;
  const Geometry& g_;
  const GradWeightTable<T>& table_;
  const TileTable<T>& tiles_;
  const RowReader<T> reader_, gy_;
  const Writer<T> writer_;
  Cut cut_;
  const StagedAxis down_, across_;
  const bool in_place_;
  const Steps x_;
  index u_, staged_;                               // T of u and of staged x
  std::vector<index> row_offset_, column_offset_;  // of pixels and taps in x
};

// A 1x1 kernel over whole planes sees one long row.
GradWeightCall one_row(const GradWeightCall& call, Geometry& g) {
  GradWeightCall flat{g, call.isa, call.x, call.gy, call.n, call.dw, call.algorithm, call.tile};
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
  const GradWeightCall flat = one_row(call, g);
  switch (call.algorithm) {
    case GradWeight::winograd:
      return winograd::grad_weight<T>(flat);
    case GradWeight::depthwise:
      return Driver<T, DepthwiseTile<T>>(flat).run();
    case GradWeight::matrix:
      return Driver<T, DenseTile<T>>(flat).run();
  }
}

template void run<float>(const GradWeightCall&);
template void run<double>(const GradWeightCall&);

}  // namespace konv::grad_weight

namespace konv {

template <class T>
void grad_bias(const IsaTable& isa, const ImageView& gy, index n, index channels, void* db) {
  const RowReader<T> reader(isa, gy, PadMode::zeros);
  const bool joined = gy.plane_contiguous() && reader.in_place(0, 0, 0);
  const index rows = joined ? 1 : gy.h, count = joined ? gy.h * gy.w : gy.w, work = n * channels * gy.h * gy.w;
  const int slots = static_cast<int>(std::clamp<index>(std::min(channels, work / 32768), 1, num_threads()));
  const Workspace scratch(0, round_up(std::max<index>(gy.w, 1) * index{sizeof(T)}, 64), slots);
  parallel_for(
      channels,
      [&](index c, int slot) {
        double total = 0;
        for (index image = 0; image < n; image++)
          for (index r = 0; r < rows; r++) {
            const T* row = reader.in_place(image, c, r);
            if (!row) reader.read(scratch.slot<T>(slot), image, c, r, 0, 1, count), row = scratch.slot<T>(slot);
            total += isa.grad_weight<T>().sum(row, count);
          }
        const T value = static_cast<T>(total);
        isa.rows<T>().store[static_cast<int>(gy.scalar)](static_cast<char*>(db) + c * scalar_bytes(gy.scalar), 1,
                                                         &value, 1);
      },
      slots);
}

template void grad_bias<float>(const IsaTable&, const ImageView&, index, index, void*);
template void grad_bias<double>(const IsaTable&, const ImageView&, index, index, void*);

}  // namespace konv
