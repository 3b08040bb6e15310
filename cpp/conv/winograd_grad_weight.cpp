// The gradient of the weight by Winograd's transforms: forward's products, summed over tiles instead of channels.
//   dW = G^T [ sum over tiles (A gy A^T) * (B^T x B) ] G          * element by element, for each pair of channels
//   x  --B^T.B--> V[xi][c][tile]                                              as forward (winograd_input.hpp)
//   gy --A.A^T--> Y[xi][panel][tile][2 or 3 vectors of outputs]               channels into the lanes first: z
//                 D[xi][c][vectors] += sum_tile Y[xi][tile] * V[xi][c][tile]
//   dW <--G^T.G-- D                                                           for each piece: a panel x some channels
// It is forward's F(m, r) read in another direction (the transposed bilinear form), so it is as exact.
//
// Tiles of all images are cut into blocks whose V and Y fit the budget of scratch; D lives on from block to block. With
// a single block (small images, small batches), D never exists as a whole: each task takes a piece through all xi in
// its own L2 and finishes it. Where even D would be too large, ranges of output channels are done one by one.
// Each block of tiles is summed by itself and then added, which keeps the error of large batches small.
// The cut depends on the sizes alone, so threads do not change a bit of it. Source: the gradient is the adjoint of
// A^T[(G w)*(B^T x)] in w; A. Lavin, S. Gray, CVPR 2016, section 4.
#include "winograd.hpp"
#include "winograd_input.hpp"

namespace konv::winograd {
namespace {

constexpr index piece_channels = 56;
constexpr index most_tiles = 448;  // of a block
constexpr index max_width = 48;    // of a panel
constexpr index input_share = 8;   // channels of one task

struct Cut : Blocks {
  index range;     // panels of output channels done together
  index channels;  // of a piece
  index v, y, d;   // values of what threads share
  index bytes;     // of them
};

// Fewest ranges, then fewest blocks that keep what is shared under 3/4 of the limit or twice dW (the threads' own
// scratch is small); blocks of less than 49 tiles only when nothing else is left.
template <class T> Cut choose_cut(const Problem<T>& p, index n, Scalar scalar) {
  const index each = p.tiling.tiles(), weights = checked_mul(p.g.oc * p.rows.channels, p.g.taps() * sizeof(T));
  const index budget = std::max(scratch_limit(p.g, scalar, n) / 4 * 3, 2 * weights), channels = p.rows.channels;
  Cut cut{};
  cut.segments = p.tiling.segments(n);
  cut.threads = p.threads(cut.segments);
  cut.part = std::min(cut.segments, std::max<index>(1, block_tiles / each));
  cut.range = p.panels.count();
  cut.channels = ceil_div(channels, ceil_div(channels, piece_channels));
  const index fewest = std::min(cut.segments, ceil_div(cut.segments, std::max<index>(1, most_tiles / each)));
  const index pieces = ceil_div(channels, cut.channels), piece_products = p.products() * cut.channels;
  for (cut.blocks = fewest;;) {
    const index tiles = cut.most() * each, outputs = cut.range * p.panels.width;
    const bool single = cut.blocks == 1;
    cut.pitch = tiles + p.lanes;  // parts are written in whole vectors
    cut.values = {0, single ? piece_products * p.panels.width : 0, 2 * cut.channels * p.g.taps() * p.lanes};
    cut.v = p.v_size(cut.pitch);
    cut.y = checked_mul(p.products(), checked_add(checked_mul(tiles, outputs), p.panels.width));
    cut.d = single ? 0 : checked_mul(piece_products * pieces, outputs);
    cut.bytes = checked_mul(checked_add(checked_add(cut.v, cut.y), cut.d), sizeof(T));
    const bool shorter = cut.most() > 1 && tiles >= (cut.range > 1 ? 49 : 14);
    if (cut.bytes <= budget || (!shorter && cut.range == 1)) return cut;
    if (!shorter) cut.range = ceil_div(cut.range, 2);
    cut.blocks = shorter ? std::min(cut.segments, cut.blocks + ceil_div(cut.blocks, 8)) : fewest;
  }
}

template <class T> class Gradient {
 public:
  explicit Gradient(const GradWeightCall& call)
      : p_(call.g, call.isa, call.tile, call.tile, std::max(call.g.kh, call.g.kw)), tiles_(call.isa.tiles.of<T>()),
        reader_(call.isa, call.gy, PadMode::zeros), writer_(call), cut_(choose_cut(p_, call.n, call.x.scalar)),
        input_(p_, call.x, call.n, cut_), work_(cut_.bytes, Scratch<T>::size(p_, cut_), cut_.threads),
        v_(work_.template shared<T>()), y_(v_ + cut_.v), d_(y_ + cut_.y) {
    for (index t = 0; t < cut_.most() * p_.tiling.tiles(); t++) steps_.push_back({t, t});
    for (index c = 0; c < cut_.channels; c++) columns_.push_back({c * cut_.pitch, c});
  }

  void run() {
    for (index group = 0; group < p_.g.groups; group++)
      for (index panel = 0; panel < p_.panels.count(); panel += cut_.range)
        for (index block = 0; block < cut_.blocks; block++) {
          const index first = cut_.first(block), end = cut_.first(block + 1);
          const Step step{group, panel, std::min(cut_.range, p_.panels.count() - panel),
                          first, end,   (end - first) * p_.tiling.tiles()};
          transform(step);
          multiply(step);
        }
  }
 private:
  // A block of segments against a range of panels of output channels.
  struct Step { index group, panel, panels, first, end, tiles; };

  Scratch<T> scratch(int slot) const { return Scratch<T>(p_, cut_, work_.template slot<char>(slot)); }
  // With a gap: all that a tile writes would often fall on the same sets of the cache.
  index y_stride(const Step& step) const { return (step.tiles * cut_.range + 1) * p_.panels.width; }

  // V and Y of a block: a task is some channels of the image, or half of the segments of a panel (of which threads
  // would write the same cache lines if they took a vector each: up to three times slower).
  void transform(const Step& step) {
    const index inputs = ceil_div(p_.rows.channels, input_share);
    parallel_for(inputs + 2 * step.panels, [&](index task, int slot) {
      const Scratch<T> own = scratch(slot);
      if (task >= inputs) return transform_outputs(own, step, (task - inputs) / 2, (task - inputs) % 2);
      const index from = task * input_share, to = std::min(from + input_share, p_.rows.channels);
      input_.run(own, step.first, step.end, step.group, from, to, v_, cut_.part * p_.tiling.tiles());
    }, cut_.threads);
  }

  // Panel `at` of the step: pixels of gy to channels in lanes, a vector at a time, then into Y.
  void transform_outputs(const Scratch<T>& own, const Step& step, index at, index half) const {
    const Tiling& t = p_.tiling;
    const index panel = step.panel + at, width = p_.panels.stored(panel), run_pixels = t.w.m * t.w.dilation;
    const index segments = step.end - step.first, from = segments * half / 2, to = segments * (half + 1) / 2;
    for (index l = 0; l < width; l += p_.lanes) {
      T* y = y_ + at * p_.panels.width * step.tiles + from * t.tiles() * width + l;
      for (index i = step.first + from; i < step.first + to; i++) {
        load_pixels(own, t.segment(i), step.group, p_.panels.first(panel) + l);
        for (index k = 0; k < t.runs(); k++, y += t.run() * width)
          p_.f.output_adjoint(own.z + k * run_pixels * p_.lanes, t.pixels(), t.step(), t.w.dilation, t.run(), y, width,
                              y_stride(step));
      }
    }
  }

  // z[row][column][lanes] of one segment, zeros where there is no pixel.
  void load_pixels(const Scratch<T>& own, const Segment& s, index group, index first) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const index l = p_.lanes, pitch = p_.tiling.pixels(), o = group * p_.g.group_oc() + first;
    const index column = s.tile_w * w.m * w.dilation, columns = std::min(pitch, p_.g.ow - column);
    const index channels = std::min(l, p_.g.group_oc() - first);
    for (index i = 0; i < h.m; i++) {
      const index row = (s.tile_h * h.m + i) * h.dilation + s.phase_h, count = row < p_.g.oh ? columns : 0;
      T* z = own.z + i * pitch * l;
      if (count > 0) reader_.read_lanes(z, l, {{s.n, o, row, column, channels}, 1, count}, own.staged);
      std::fill(z + count * l, z + pitch * l, T(0));
    }
  }

  // Every piece of D: the sums over this block's tiles; after the last block, dW.
  void multiply(const Step& step) {
    const index pieces = ceil_div(p_.rows.channels, cut_.channels);
    parallel_for(step.panels * pieces, [&](index task, int slot) {
      const Scratch<T> own = scratch(slot);
      const index at = task / pieces, c = task % pieces * cut_.channels;
      const index count = std::min(cut_.channels, p_.rows.channels - c), width = p_.panels.stored(step.panel + at);
      T* d = cut_.blocks == 1 ? own.m : d_ + task * p_.products() * cut_.channels * p_.panels.width;
      const T* y = y_ + at * p_.panels.width * step.tiles;
      alignas(64) T block[piece_channels * max_width];
      for (index xi = 0; xi < p_.products(); xi++) {  // d[c][width] += sum over tiles of y[tile][width] * v[c][tile]
        T *all = d + xi * count * width, *sums = step.first == 0 ? all : block;
        tiles_.output_lane_at(static_cast<int>(width / p_.lanes), count,
                              {step.tiles, y + xi * y_stride(step), sums, width, no_sums<T>, 0},
                              v_ + input_.offset(xi) + c * cut_.pitch, columns_.data(), steps_.data());
        for (index k = 0; step.first > 0 && k < count * width; k++) all[k] += block[k];
      }
      if (step.end == cut_.segments) finish(own, d, step.group, step.panel + at, c, count);
    }, cut_.threads);
  }

  void finish(const Scratch<T>& own, const T* d, index group, index panel, index from, index count) const {
    const index width = p_.panels.stored(panel), taps = p_.g.taps(), l = p_.lanes, columns = count * taps;
    T* rows = own.taps + columns * l;
    for (index at = 0; at < width; at += l) {
      const index first = p_.panels.first(panel) + at, outputs = std::min(l, p_.g.group_oc() - first);
      for (index c = 0; c < count; c++) p_.f.weight_adjoint(d + c * width + at, count * width, own.taps + c * taps * l);
      tiles_.transpose_store(own.taps, l, columns, rows, columns, static_cast<int>(outputs));
      writer_.write(rows, columns, group, first, outputs, from, columns);
    }
  }

  const Problem<T> p_;
  const TileTable<T>& tiles_;
  const RowReader<T> reader_;  // of gy
  const konv::grad_weight::Writer<T> writer_;
  const Cut cut_;
  const InputTransform<T> input_;
  const Workspace work_;
  T *const v_, *const y_, *const d_;
  std::vector<Place> steps_, columns_;  // of tiles and channels in V
};
}  // namespace

void grad_weight(const GradWeightCall& call) {
  with_floating_type(call.gy.scalar, [&](auto t) { Gradient<decltype(t)>(call).run(); });
}
}  // namespace konv::winograd
