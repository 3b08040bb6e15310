// How outputs are cut into tiles, and where the products of a tile stand.
//
// Along each axis, output o under tap k reads image cell o*stride + k*dilation - pad. Both options become phases, so
// that a tile always sees a plain convolution of r taps over neighbouring cells:
//
//   stride s    cells p, p+s, p+2s ... are one more channel for each phase p < s; r = ceil(k / s).
//               y[o] = sum_p sum_a w[a*s + p] * x_p[o + a],   x_p[i] = x[i*s + p - pad]
//   dilation d  outputs q, q+d, q+2d ... are a problem of their own for each phase q < d; r = k.
//               y_q[o] = sum_a w[a] * x_q[o + a],             x_q[i] = x[i*d + q - pad]
//               Phases of rows count as images. Those of columns lie side by side, in the image as in a row of tiles:
//               tile (t, q) starts at column t*m*d + q and is tile t*d + q of its row.
//
// Where s does not divide k, some phases have a tap less than r. The missing one is the leading coefficient, which the
// point at infinity multiplies: those products are left out, so that 3x3 with stride 2 costs (2m+1)^2 products of 9m^2.
//
// Tiles are numbered along rows of tiles, rows along images (n, then dilation phase of the rows). The unit of work is a
// segment: a row of tiles, or a near-equal part of a very long one. Cuts depend on the geometry alone.
#pragma once
#include <algorithm>

#include "../isa/table.hpp"

namespace konv::winograd {

constexpr int max_products = 64;
constexpr int max_phases = 16;
constexpr index block_tiles = 112;  // tiles whose products are at work at a time

// One axis of the geometry.
struct Axis {
  index m, r, stride, dilation, pad, kernel, outputs;
  index phases;  // of the dilation, as far as they have outputs
  index tiles;   // of one such phase

  static index taps(index kernel, index stride) { return ceil_div(kernel, stride); }
  Axis(index m, index stride, index dilation_, index pad, index kernel, index outputs)
      : m(m),
        r(taps(kernel, stride)),
        stride(stride),
        dilation(kernel == 1 ? 1 : dilation_),
        pad(pad),
        kernel(kernel),
        outputs(outputs),
        phases(std::min(dilation, outputs)),
        tiles(ceil_div(ceil_div(outputs, dilation), m)) {}

  index products() const { return m + r - 1; }
  // Image cell behind cell i of a phase; stride or dilation is 1.
  index cell(index i, index phase) const { return i * stride * dilation + phase - pad; }
  // Products of stride phase `phase`: all, or all but the point at infinity.
  int used(index phase) const { return static_cast<int>(products() - (ceil_div(kernel - phase, stride) < r)); }
};

struct Segment {
  index n, phase_h;     // image; dilation phase of its rows
  index tile_h;         // row of tiles
  index tile_w, count;  // tiles of each column phase
  index tiles;          // count * column phases
};

struct Tiling {
  Axis h, w;
  index parts;  // segments in a row of tiles

  // Segments of about 112 tiles at most, fewer where many channels would make their products large.
  static Tiling of(const Geometry& g, index mh, index mw) {
    Tiling t{Axis(mh, g.stride_h, g.dilation_h, g.pad_top, g.kh, g.oh),
             Axis(mw, g.stride_w, g.dilation_w, g.pad_left, g.kw, g.ow), 1};
    const index values = checked_mul(t.products() * t.stride_phases(), g.group_c());
    const index most = std::clamp<index>((index{1} << 20) / values, 14, block_tiles);
    t.parts = std::min(t.w.tiles, ceil_div(checked_mul(t.w.tiles, t.w.phases), most));
    return t;
  }

  index products() const { return h.products() * w.products(); }
  index stride_phases() const { return h.stride * w.stride; }
  index segments(index n) const { return checked_mul(checked_mul(n, h.phases), checked_mul(h.tiles, parts)); }
  // Most tiles of each column phase in a segment; most tiles.
  index segment_count() const { return ceil_div(w.tiles, parts); }
  index segment_tiles() const { return segment_count() * w.phases; }
  // Cells of a row that `count` tiles of each column phase read.
  index columns(index count) const { return (count * w.m + w.r - 1) * w.dilation; }

  Segment segment(index i) const {
    const index part = i % parts, row = i / parts, image = row / h.tiles;
    const index first = w.tiles * part / parts, count = w.tiles * (part + 1) / parts - first;
    return {image / h.phases, image % h.phases, row % h.tiles, first, count, count * w.phases};
  }
  index tiles_between(index from, index to) const {
    if (parts == 1) return (to - from) * segment_tiles();
    index tiles = 0;
    for (index i = from; i < to; i++) tiles += segment(i).tiles;
    return tiles;
  }
};

// The rows of the products' operands: product xi sums over k[xi] = channels * (stride phases that reach it) rows, those
// of one phase behind each other.
//
//   xi = 0   phase 0: c0 c1 ..   phase 1: c0 c1 ..   ...        each row `pitch` long
//   xi = 1   ...                                                 `gap` further
//
// Without a gap, the same row of all xi would often fall on one cache set (strides of many powers of two).
struct Rows {
  index channels;
  index k[max_products] = {};
  index before[max_products + 1] = {};  // rows of all products before xi
  index at[max_phases][max_products];   // row of channel 0 of a phase

  Rows(const Tiling& t, index channels) : channels(channels) {
    const index aw = t.w.products();
    for (index xi = 0; xi < t.products(); xi++) {
      for (index p = 0; p < t.stride_phases(); p++) {
        const bool used = xi / aw < t.h.used(p / t.w.stride) && xi % aw < t.w.used(p % t.w.stride);
        at[p][xi] = before[xi] + k[xi];
        if (used) k[xi] += channels;
      }
      before[xi + 1] = before[xi] + k[xi];
    }
    all = before[t.products()];
  }
  index all = 0;

  void offsets(const Tiling& t, index phase, index pitch, index gap, index* to) const {
    for (index xi = 0; xi < t.products(); xi++) to[xi] = at[phase][xi] * pitch + xi * gap;
  }
};

}  // namespace konv::winograd
