// Weights in the order in which register tiles read them, and the tiling of output channels that goes with it.
//
//   memory            w[o][i][kh][kw], any strides, any storage type, real or complex
//   packed, a group   panel 0: k = 0: w[o0] w[o1] .. w[o(width-1)]     k = (i, kh, kw), kh and kw fastest
//                              k = 1: w[o0] ...
//                     panel 1: ...
//
// All panels but the last hold `width` channels. The last holds what is left, rounded up to `unit` (a vector for the
// output-lane tile, 1 for the pixel-lane tile) and filled with zeros.
#pragma once
#include "../isa/table.hpp"

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
  index kept(index panel) const { return channels - first(panel) < width ? channels - first(panel) : width; }
  index stored(index panel) const { return round_up(kept(panel), unit); }
  index group_size() const { return checked_mul(k, round_up(channels, unit)); }
  // Where panel `panel` of group `group` starts.
  index offset(index group, index panel) const { return group * group_size() + first(panel) * k; }
};
inline Panels output_panels(index channels, index k, index lanes) {
  return {channels, k, lanes * panel_vectors(ceil_div(channels, lanes)), lanes};
}

// The weight of real channels (o, i) of a group, all taps: dst[kh*kw_count + kw], as T.
template <class T>
void read_taps(const IsaTable& isa, const WeightView& w, index g, index o, index i, index kh, index kw, T* dst);

template <class T>
void pack_panels(const IsaTable& isa, const WeightView& w, const Geometry& g, const Panels& panels, T* dst);

}  // namespace konv
