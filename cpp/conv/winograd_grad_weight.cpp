// The gradient of the weight by Winograd's transforms: the same products as forward, summed over tiles instead of
// channels.
//
//   dW = G^T [ sum over tiles (A gy A^T) * (B^T x B) ] G          * element by element, for each pair of channels
//
//   x  --B^T.B--> V[xi][c][tile]                                              as forward (winograd_input.hpp)
//   gy --A.A^T--> Y[xi][panel][tile][2 vectors of output channels]            channels into the lanes first: z
//                 D[xi][c][2 vectors] += sum_tile Y[xi][tile] * V[xi][c][tile]
//   dW <--G^T.G-- D                                                           for each piece: a panel x some channels
//
// It is forward's F(m, r) read in another direction (the transposed bilinear form), so it is as exact.
//
// Tiles of all images are cut into blocks whose V and Y fit the budget of scratch; D lives on from block to block. With
// a single block (small images, small batches), D never exists as a whole: each task takes a piece through all xi in
// its own L2 and finishes it. Where even D would be too large, output channels are done in ranges, and V again for
// each.
//
// Each block of some hundred tiles is summed by itself and then added, which keeps the error of large batches small.
// The cut depends on the sizes alone, so threads do not change a bit of it. Source: the gradient is the adjoint of
// A^T[(G w)*(B^T x)] in w; A. Lavin, S. Gray, CVPR 2016, section 4.
#include "../parallel.hpp"
#include "../workspace.hpp"
#include "winograd.hpp"
#include "winograd_input.hpp"

namespace konv::winograd {
namespace {

constexpr index piece_channels = 56;
constexpr index most_tiles = 448;                  // of a block
constexpr index sum_tiles = 112;                   // a block of so many is worth a sum of its own
constexpr index max_columns = 16, max_width = 32;  // of a register tile
constexpr index input_share = 8;                   // channels of one task

struct Cut {
  int threads;
  index segments, blocks;
  index part;      // segments transformed at a time
  index range;     // panels of output channels done together
  index channels;  // of a piece
  index pitch;     // of V

  index first(index block) const { return segments * block / blocks; }
  index most() const { return ceil_div(segments, blocks); }
};

template <class T>
struct Scratch {
  Carver carver;
  InputScratch<T> input;
  T *piece, *z, *staged, *taps;

  Scratch(const Problem<T>& p, const Cut& cut, char* base) : carver{base}, input(p, cut.part, carver) {
    carver.take(piece, cut.blocks == 1 ? p.products() * cut.channels * p.panels.width : 0);
    carver.take(z, p.f.mh * p.z_columns() * p.lanes);
    carver.take(staged, p.lanes * p.z_columns());
    carver.take(taps, p.g.taps() * p.lanes);
  }
  static index size(const Problem<T>& p, const Cut& cut) { return Scratch(p, cut, nullptr).carver.bytes; }
};

template <class T>
struct Shared {
  Carver carver;
  T *v, *y, *d;

  Shared(const Problem<T>& p, const Cut& cut, char* base) : carver{base} {
    const index tiles = cut.most() * p.tiling.segment_tiles(), outputs = cut.range * p.panels.width;
    const index pieces = ceil_div(p.rows.channels, cut.channels);
    carver.take(v, p.v_size(cut.pitch));
    carver.take(y, checked_mul(checked_mul(p.products(), tiles), outputs));
    carver.take(d, cut.blocks == 1 ? 0 : checked_mul(p.products() * cut.channels * pieces, outputs));
  }
  static index size(const Problem<T>& p, const Cut& cut) { return Shared(p, cut, nullptr).carver.bytes; }
};

// Fewest ranges, then fewest blocks that keep what is shared under 6 MiB, 3/16 of image and gradient or twice dW (the
// threads' own scratch is small); blocks of less than 49 tiles only when nothing else is left.
template <class T>
Cut choose_cut(const Problem<T>& p, index n, index image_bytes) {
  const index each = p.tiling.segment_tiles(), weights = checked_mul(p.g.oc * p.rows.channels, p.g.taps() * sizeof(T));
  const index budget = std::max({index{6} << 20, image_bytes / 16 * 3, 2 * weights});
  const index panels = p.panels.count(), channels = p.rows.channels;
  Cut cut{};
  cut.segments = p.tiling.segments(n);
  cut.part = std::min(cut.segments, std::max<index>(1, block_tiles / each));
  cut.channels = ceil_div(channels, ceil_div(channels, piece_channels));
  const index work = checked_mul(checked_mul(cut.segments * each, p.rows.all), p.g.oc);
  cut.threads = static_cast<int>(std::clamp<index>(work >> 20, 1, num_threads()));
  for (index ranges = 1;; ranges = std::min(panels, 2 * ranges)) {
    cut.range = ceil_div(panels, ranges);
    for (cut.blocks = ceil_div(cut.segments, std::max<index>(1, most_tiles / each));;
         cut.blocks += ceil_div(cut.blocks, 8)) {
      cut.blocks = std::min(cut.blocks, cut.segments);
      cut.pitch = cut.most() * each + p.lanes;  // tasks write rows in no order
      if (Shared<T>::size(p, cut) <= budget) return cut;
      const bool small = cut.most() == 1 || cut.most() * each < (ranges < panels ? 49 : 14);
      if (small && ranges == panels) return cut;
      if (small) break;
    }
  }
}

template <class T>
class Gradient {
 public:
  Gradient(const Geometry& g, int m, const IsaTable& isa, const ImageView& x, const ImageView& gy, index n, T* dw)
      : p_(g, isa, m),
        table_(isa.grad_weight<T>()),
        gy_(gy),
        reader_(isa, gy, PadMode::zeros),
        dw_(dw),
        cut_(choose_cut(p_, n, image_bytes(g, x.scalar, n))),
        input_(p_, x, cut_.pitch),
        work_(round_up(Shared<T>::size(p_, cut_), 64), Scratch<T>::size(p_, cut_), cut_.threads),
        shared_(p_, cut_, work_.template shared<char>()),
        in_place_(gy.parts == 1 && reader_.in_place(0, 0, 0)) {}

  void run() {
    for (index group = 0; group < p_.g.groups; group++)
      for (index panel = 0; panel < p_.panels.count(); panel += cut_.range)
        for (index block = 0; block < cut_.blocks; block++) {
          const index panels = std::min(cut_.range, p_.panels.count() - panel);
          transform(group, panel, panels, block);
          multiply(group, panel, panels, block);
        }
  }

 private:
  static index image_bytes(const Geometry& g, Scalar scalar, index n) {
    const index values = checked_add(checked_mul(g.c, g.h * g.w), checked_mul(g.oc, g.oh * g.ow));
    return checked_mul(checked_mul(n, values), scalar_bytes(scalar));
  }
  Scratch<T> scratch(int slot) const { return Scratch<T>(p_, cut_, work_.template slot<char>(slot)); }
  index tiles_between(index from, index to) const {
    index tiles = 0;
    for (index i = from; i < to; i++) tiles += p_.tiling.segment(i).tiles;
    return tiles;
  }

  // V and Y of a block: a task is some channels of the image, or one vector of output channels.
  void transform(index group, index panel, index panels, index block) {
    const index first = cut_.first(block), end = cut_.first(block + 1), tiles = tiles_between(first, end);
    const index inputs = ceil_div(p_.rows.channels, input_share);
    const index outputs =
        ceil_div(std::min(panels * p_.panels.width, p_.g.group_oc() - p_.panels.first(panel)), p_.lanes);
    parallel_for(
        inputs + outputs,
        [&](index task, int slot) {
          const Scratch<T> own = scratch(slot);
          if (task >= inputs) return transform_outputs(own, group, panel, task - inputs, first, end, tiles);
          T* v = shared_.v;
          for (index s = first; s < end; s += cut_.part) {
            const index count = std::min(cut_.part, end - s), from = task * input_share;
            input_.run(own.input, s, count, group, from, std::min(from + input_share, p_.rows.channels), v);
            v += tiles_between(s, s + count);
          }
        },
        cut_.threads);
  }

  // Vector `vector` of the range that begins at `panel`: pixels of gy to channels in lanes, then into Y.
  void transform_outputs(const Scratch<T>& own, index group, index panel, index vector, index first, index end,
                         index tiles) const {
    const Axis& w = p_.tiling.w;
    const index l = p_.lanes, inside = p_.panels.first(panel) + vector * l, o = group * p_.g.group_oc() + inside;
    const int channels = static_cast<int>(std::min(l, p_.g.group_oc() - inside));
    const index own_panel = inside / p_.panels.width, width = p_.panels.stored(own_panel), stride = y_stride(tiles);
    T* y = shared_.y + (p_.panels.first(own_panel) - p_.panels.first(panel)) * tiles + inside % p_.panels.width;
    const index pixels = w.m * w.dilation;
    for (index i = first; i < end; i++) {
      const Segment s = p_.tiling.segment(i);
      for (index t = 0; t < s.count; t += p_.z_count()) {
        const index count = std::min(p_.z_count(), s.count - t), pitch = count * pixels;
        load_pixels(own, s, o, channels, (s.tile_w + t) * pixels, pitch);
        const index calls = w.dilation == 1 ? 1 : count, each = w.dilation == 1 ? count : w.phases;
        for (index k = 0; k < calls; k++, y += each * width)
          p_.f.output_adjoint(own.z + k * pixels * l, pitch, w.dilation == 1 ? w.m : 1, w.dilation, each, y, width,
                              stride);
      }
    }
  }
  index y_stride(index tiles) const { return tiles * cut_.range * p_.panels.width; }

  // z[row][column][lanes] of one row of tiles, zeros where there is no pixel.
  void load_pixels(const Scratch<T>& own, const Segment& s, index o, int channels, index column, index pitch) const {
    const Axis& h = p_.tiling.h;
    const index l = p_.lanes, columns = std::clamp<index>(p_.g.ow - column, 0, pitch);
    for (index i = 0; i < h.m; i++) {
      const index row = (s.tile_h * h.m + i) * h.dilation + s.phase_h, count = row < p_.g.oh ? columns : 0;
      T* z = own.z + i * pitch * l;
      std::fill(z + count * l, z + pitch * l, T(0));
      if (count == 0) continue;
      if (in_place_) {
        table_.transpose_load(static_cast<const T*>(gy_.plane(s.n, o)) + row * gy_.sh + column, gy_.sc, count, channels,
                              z, l);
      } else {
        for (int c = 0; c < channels; c++) reader_.read(own.staged + c * count, s.n, o + c, row, column, 1, count);
        table_.transpose_load(own.staged, count, count, channels, z, l);
      }
    }
  }

  // Every piece of D: the sums over this block's tiles; after the last block, dW.
  void multiply(index group, index panel, index panels, index block) {
    const index tiles = tiles_between(cut_.first(block), cut_.first(block + 1));
    const index pieces = ceil_div(p_.rows.channels, cut_.channels);
    parallel_for(
        panels * pieces,
        [&](index task, int slot) {
          const Scratch<T> own = scratch(slot);
          const index at = task / pieces, c = task % pieces * cut_.channels;
          const index count = std::min(cut_.channels, p_.rows.channels - c), width = p_.panels.stored(panel + at);
          T* d = cut_.blocks == 1 ? own.piece : shared_.d + task * p_.products() * cut_.channels * p_.panels.width;
          const T* y = shared_.y + at * p_.panels.width * tiles;
          for (index xi = 0; xi < p_.products(); xi++)
            add_products(y + xi * y_stride(tiles), shared_.v + input_.offset(xi) + c * cut_.pitch, tiles, count, width,
                         block == 0, d + xi * count * width);
          if (block == cut_.blocks - 1) finish(own, d, group, panel + at, c, count);
        },
        cut_.threads);
  }

  // d[c][width] += sum over tiles of y[tile][width] * v[c][tile].
  void add_products(const T* y, const T* v, index tiles, index count, index width, bool first, T* d) const {
    static constexpr index row_offset[] = {0};
    index column_offset[max_columns];
    alignas(64) T sum[max_columns * max_width];
    const index most = std::min<index>(table_.columns, max_columns), groups = ceil_div(count, most);
    const bool apart = !first && cut_.most() * p_.tiling.segment_tiles() >= sum_tiles;
    for (index t = 0; t < most; t++) column_offset[t] = t * cut_.pitch;
    for (index i = 0, c = 0; i < groups; i++) {
      const index columns = ceil_div(count - c, groups - i);
      T* to = d + c * width;
      table_.tile(width, columns, first || apart,
                  {1, tiles, y, v + c * cut_.pitch, row_offset, column_offset, 1, apart ? sum : to});
      for (index k = 0; apart && k < columns * width; k++) to[k] += sum[k];
      c += columns;
    }
  }

  void finish(const Scratch<T>& own, const T* d, index group, index panel, index from, index count) const {
    const index width = p_.panels.stored(panel), taps = p_.g.taps(), l = p_.lanes;
    for (index at = 0; at < width; at += l) {
      const index first = p_.panels.first(panel) + at, channels = std::min(l, p_.g.group_oc() - first);
      for (index c = 0; c < count; c++) {
        p_.f.weight_adjoint(d + c * width + at, count * width, own.taps);
        T* to = dw_ + ((group * p_.g.group_oc() + first) * p_.rows.channels + from + c) * taps;
        for (index o = 0; o < channels; o++, to += p_.rows.channels * taps)
          for (index k = 0; k < taps; k++) to[k] = own.taps[k * l + o];
      }
    }
  }

  const Problem<T> p_;
  const GradWeightTable<T>& table_;
  const ImageView gy_;
  const RowReader<T> reader_;
  T* const dw_;
  const Cut cut_;
  const InputTransform<T> input_;
  const Workspace work_;
  const Shared<T> shared_;
  const bool in_place_;
};

}  // namespace

template <class T>
void grad_weight(const Geometry& g, int m, const IsaTable& isa, const ImageView& x, const ImageView& gy, index n,
                 T* dw) {
  Gradient<T>(g, m, isa, x, gy, n, dw).run();
}
template void grad_weight<float>(const Geometry&, int, const IsaTable&, const ImageView&, const ImageView&, index,
                                 float*);
template void grad_weight<double>(const Geometry&, int, const IsaTable&, const ImageView&, const ImageView&, index,
                                  double*);

}  // namespace konv::winograd
