// Outputs at the edges of an image, whose windows lie in the padding in part. Along each axis outputs fall into runs
// that see the same taps; a run of rows and one of columns are summed together, over those taps alone:
//   3x3, stride 2, on 8x8 cells        3x3, dilation 18, on 32x32 cells
//      4 | 6 6 6                          4 x 14x14 | 2 x 14x4 | 4 x 14x14
//      --+------    taps of each          ----------+----------+----------    taps, and how many outputs
//      6 | 9 9 9    output                2 x 4x14  | 1 x 4x4  | 2 x 4x14
//      6 | 9 9 9                          4 x 14x14 | 2 x 14x4 | 4 x 14x14
// What is left out are products with zeros (or with NaN, of an infinite weight).
#pragma once
#include "stage.hpp"

namespace konv {

struct Edges {
  static constexpr index most_runs = 6, most_taps = 64;
  std::vector<Run> rows, columns;
  double left = 1, time = 1;  // of all products, those that are left; with tiles that are not full

  // One run of each where that gains less than tiles that are not full (about one output each) and lists of steps cost.
  explicit Edges(const Geometry& g)
      : rows(runs(g.oh, g.kh, g.stride_h, g.dilation_h, g.pad_top, g.h)),
        columns(runs(g.ow, g.kw, g.stride_w, g.dilation_w, g.pad_left, g.w)) {
    double more = 1;
    for (const auto* axis : {&rows, &columns}) {
      double products = 0, of_one = 0;
      for (const Run& r : *axis) products += double(r.taps * r.outputs), of_one += double(r.taps);
      left *= products, more *= of_one;
    }
    const double all = double(g.taps()) * double(g.oh * g.ow);
    time = (left + more) / (all + double(g.taps())), left /= all;
    const double saved = (1 - time) * all * double(g.oc * g.group_c());
    if (left > 0 && time < 0.97 && saved > 100e3 && g.mode == PadMode::zeros && g.taps() <= most_taps) return;
    left = time = 1, rows = {{0, g.oh, 0, g.kh}}, columns = {{0, g.ow, 0, g.kw}};
  }
 private:
  // None where an output sees no tap at all, or where there would be many.
  static std::vector<Run> runs(index outputs, index taps, index stride, index dilation, index pad, index size) {
    std::vector<Run> all;
    for (index o = 0, next; o < outputs; o = next) {
      const index before = pad - o * stride;  // tap t reads cell t * dilation - before
      const index tap = ceil_div(std::max<index>(before, 0), dilation);
      const index end = std::min(taps, ceil_div(std::max<index>(before + size, 0), dilation));
      if (end <= tap || std::ssize(all) == most_runs) return {};
      next = std::min(outputs, ceil_div(pad + size - (end - 1) * dilation, stride));  // the last tap leaves the image
      if (tap > 0) next = std::min(next, ceil_div(pad - (tap - 1) * dilation, stride));  // one more enters it
      all.push_back({o, next - o, tap, end - tap});
    }
    return all;
  }
};
}  // namespace konv
