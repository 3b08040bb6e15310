// How outputs are cut into tiles, and where the products of a tile stand.
//
// Along each axis, output o under tap k reads image cell o*stride + k*dilation - pad. A tile always sees a plain
// convolution of r taps over neighbouring cells: a kernel is cut into slices, a dilated image into phases.
//   stride s    taps p, p+s, p+2s ... are slice p < s; r = ceil(k / s). What a slice reads is one more channel.
//               y[o] = sum_p sum_a w[a*s + p] * x_p[o + a],   x_p[i] = x[i*s + p - pad]
//   k > r       under a stride of 1, r neighbouring taps are a slice.
//               y[o] = sum_p sum_a w[p*r + a] * x_p[o + a],   x_p[i] = x[i + p*r - pad]
//   dilation d  outputs q, q+d, q+2d ... are a problem of their own for each phase q < d.
//               y_q[o] = sum_a w[a] * x_q[o + a],             x_q[i] = x[i*d + q - pad]
//               Phases of rows count as images. Those of columns lie side by side, in the image as in a row of tiles:
//               tile (t, q) starts at column t*m*d + q and is tile t*d + q of its row.
// Some slices may have less than r taps. What is missing begins with the leading coefficient, which the point at
// infinity multiplies: those products are left out, so that 3x3 with stride 2 costs (2m+1)^2 products of 9m^2.
//
// Tiles are numbered along rows of tiles, rows along images (n, then dilation phase of the rows). The unit of work is a
// segment: a row of tiles, or a part of a very long one, the last of which may stand out beyond the image.
#pragma once
#include <algorithm>
#include "../isa/table.hpp"

namespace konv::winograd {

constexpr int max_products = 64;
constexpr int max_slices = 16;
constexpr index block_tiles = 84;  // tiles whose products are at work at a time

// One axis of the geometry.
struct Axis {
  index m, r, stride, dilation, pad, kernel;
  index slices;  // of the kernel
  index phases;  // of the dilation, as far as they have outputs
  index tiles;   // of one such phase

  // An axis of one tap is not transformed.
  Axis(index m_, index r_, index stride, index dilation_, index pad, index kernel, index outputs)
      : m(kernel == 1 ? 1 : m_), r(kernel == 1 ? 1 : r_), stride(stride), dilation(kernel == 1 ? 1 : dilation_),
        pad(pad), kernel(kernel), slices(stride > 1 ? stride : ceil_div(kernel, r)),
        phases(std::min(dilation, outputs)), tiles(ceil_div(ceil_div(outputs, dilation), m)) {}

  index products() const { return m + r - 1; }
  // Tap a of a slice, and the image cell that it reads for output i of a phase; stride or dilation is 1.
  index tap(index slice, index a) const { return stride > 1 ? a * stride + slice : slice * r + a; }
  index cell(index i, index phase, index slice) const { return (i * stride + tap(slice, 0)) * dilation + phase - pad; }
  // The slice reaches all products, or all but the point at infinity.
  bool reaches(index slice, index i) const { return i < products() - (tap(slice, r - 1) >= kernel); }
};

// An image, a dilation phase of its rows, a row of tiles in it, and the first tile of each column phase.
struct Segment { index n, phase_h, tile_h, tile_w; };

struct Tiling {
  Axis h, w;
  index count;  // tiles of each column phase in a segment
  index parts;  // segments in a row of tiles

  // Segments of about 84 tiles at most, fewer where many channels would make their products large.
  Tiling(const Geometry& g, index mh, index mw, index r)
      : h(mh, r, g.stride_h, g.dilation_h, g.pad_top, g.kh, g.oh),
        w(mw, r, g.stride_w, g.dilation_w, g.pad_left, g.kw, g.ow) {
    const index values = checked_mul(products() * slices(), g.group_c());
    const index most = std::clamp<index>((index{1} << 20) / values, 14, block_tiles);
    count = ceil_div(w.tiles, ceil_div(checked_mul(w.tiles, w.phases), most));
    parts = ceil_div(w.tiles, count);
  }

  index products() const { return h.products() * w.products(); }
  index slices() const { return h.slices * w.slices; }
  bool is_long() const { return slices() > h.stride * w.stride; }  // a kernel of more than r taps
  index segments(index n) const { return checked_mul(checked_mul(n, h.phases), checked_mul(h.tiles, parts)); }
  Segment segment(index i) const {
    const index row = i / parts, image = row / h.tiles;
    return {image / h.phases, image % h.phases, row % h.tiles, i % parts * count};
  }

  // A segment's tiles, pixels of a row, and cells of a row that they read.
  index tiles() const { return count * w.phases; }
  index pixels() const { return count * w.m * w.dilation; }
  index cells() const { return pixels() + (w.r - 1) * w.dilation; }
  // Its tiles are `runs` runs of `run` tiles, `step` columns from one to the next: all, or the phases of one place.
  index runs() const { return w.dilation == 1 ? 1 : count; }
  index run() const { return w.dilation == 1 ? count : w.phases; }
  index step() const { return w.dilation == 1 ? w.m : 1; }
};

// Rows of the products' operands: product xi sums over channels * (slices that reach it) rows, slice by slice.
//   xi = 0   slice 1: c0 c1 ..   slice 0: c0 c1 ..   ...        each row `pitch` long
//   xi = 1   ...                                                 `gap` further
// Slices are written in falling order: what one writes out of its reach, the next overwrites, and slice 0 reaches all.
// Without a gap, the same row of all xi would often fall on one cache set (strides of many powers of two).
struct Rows {
  index channels, all = 0;
  index before[max_products + 1];      // rows of all products before xi
  index at[max_slices][max_products];  // row of channel 0 of a slice

  Rows(const Tiling& t, index channels) : channels(channels) {
    const index aw = t.w.products();
    for (index xi = 0; xi < t.products(); xi++) {
      before[xi] = all;
      for (index p = t.slices() - 1; p >= 0; p--) {
        at[p][xi] = all;
        if (t.h.reaches(p / t.w.slices, xi / aw) && t.w.reaches(p % t.w.slices, xi % aw)) all += channels;
      }
    }
    before[t.products()] = all;
  }

  index k(index xi) const { return before[xi + 1] - before[xi]; }
  void offsets(const Tiling& t, index slice, index pitch, index gap, index* to) const {
    for (index xi = 0; xi < t.products(); xi++) to[xi] = at[slice][xi] * pitch + xi * gap;
  }
};
}  // namespace konv::winograd
