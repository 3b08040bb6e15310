// Weights in the order in which register tiles read them, and the tiling of output channels that goes with it.
//   memory            w[o][i][kh][kw], any strides, any storage type, real or complex
//   packed, a group   panel 0: k = 0: w[o0] w[o1] .. w[o(width-1)]     k = (i, kh, kw), kh and kw fastest
//                              k = 1: w[o0] ...
//                     panel 1: ...
// All panels but the last hold `width` channels. The last holds what is left, rounded up to `unit` (a vector for the
// output-lane tile, 1 for the pixel-lane tile) and filled with zeros.
#pragma once
#include "../isa/table.hpp"
#include "../parallel.hpp"

namespace konv {

// Vectors of output channels in a panel of the output-lane tile: two; three where two would leave one alone (0.96 to
// 1.23 times as fast), but not of so many that values are gathered, in the order of wider tiles.
inline index panel_vectors(index all) { return all % 2 && all % 3 != 1 && all < 20 ? 3 : 2; }

struct Panels {
  index channels;  // output channels of one group
  index k;         // products of one output
  index width;     // channels of a full panel
  index unit;

  index count() const { return ceil_div(channels, width); }
  index first(index panel) const { return panel * width; }
  index kept(index panel) const { return std::min(width, channels - first(panel)); }
  index stored(index panel) const { return round_up(kept(panel), unit); }
  index group_size() const { return checked_mul(k, round_up(channels, unit)); }
  index offset(index group, index panel) const { return group * group_size() + first(panel) * k; }
};
inline Panels output_panels(index channels, index k, index lanes) {
  return {channels, k, lanes * panel_vectors(ceil_div(channels, lanes)), lanes};
}

// The weight of real channels (o, i) of a group, all taps: dst[kh*kw_count + kw], as T.
template <class T>
void read_taps(const IsaTable& isa, const WeightView& w, index g, index o, index i, index kh, index kw, T* dst) {
  // Complex: output part p from input part q is the element (p, q) of [[re, -im], [im, re]].
  const index p = o % w.parts, q = i % w.parts;
  const index at = g * w.sg + o / w.parts * w.so + i / w.parts * w.si + (p != q);
  if (w.sh == w.sw * kw) kw *= kh, kh = 1;  // one run
  for (index r = 0; r < kh; r++) isa.rows.of<T>().load(w.scalar, dst + r * kw, w.at(at + r * w.sh), w.sw, kw, w.si);
  if (p < q)
    for (index t = 0; t < kh * kw; t++) dst[t] = T(0) - dst[t];
}

// All k of output channel o. Real weights whose channels follow each other are one run.
template <class T>
void read_channel(const IsaTable& isa, const WeightView& w, const Geometry& g, index group, index o, T* dst) {
  if (w.parts == 1 && (w.sh == w.sw * g.kw || g.kh == 1) && w.si == w.sw * g.taps())
    return isa.rows.of<T>().load(w.scalar, dst, w.at(group * w.sg + o * w.so), w.sw, g.group_c() * g.taps(), w.si);
  for (index i = 0; i < g.group_c(); i++) read_taps<T>(isa, w, group, o, i, g.kh, g.kw, dst + i * g.taps());
}
}  // namespace konv
