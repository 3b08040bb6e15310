// Convolution cut into rectangles of outputs that see the same taps.
//
// Under a dilation about as large as the image, most taps of most outputs lie in the padding: at a dilation of 18 on
// 32 x 32 pixels, 61 % of all products. Along each axis the outputs fall into runs:
//     outputs   0 ............... 13   14 .. 17   18 ............... 31
//     taps             1, 2               1               0, 1
// A run of rows and a run of columns make a region: a convolution of its own, with fewer taps and no padding, with its
// own plan and packed weight. What is left out are products with zeros (or with NaN, of an infinite weight).
#include "direct.hpp"

namespace konv::regions {
namespace {

constexpr index most_outputs = 1024, most_taps = 64, most_runs = 6, most_cells = index{1} << 40;  // along an axis

// None where an output sees no tap at all, or where there would be many.
std::vector<Run> runs(index outputs, index taps, index stride, index dilation, index pad, index size) {
  std::vector<Run> all;
  if (outputs > most_outputs || taps > most_taps || std::max(size, dilation) > most_cells) return all;
  for (index o = 0; o < outputs; o++) {
    const index before = pad - o * stride;  // tap t reads cell t * dilation - before
    const index tap = ceil_div(std::max<index>(before, 0), dilation);
    const index end = std::min(taps, ceil_div(std::max<index>(before + size, 0), dilation));
    if (all.empty() || all.back().tap != tap || all.back().taps != end - tap)
      all.push_back({o, 0, tap, end - tap, tap * dilation - before});
    if (end <= tap || std::ssize(all) > most_runs) return {};
    all.back().outputs++;
  }
  return all;
}
}  // namespace

std::vector<Region> cut(const Geometry& g) {
  std::vector<Region> all;
  if (g.mode != PadMode::zeros) return all;
  const auto columns = runs(g.ow, g.kw, g.stride_w, g.dilation_w, g.pad_left, g.w);
  for (const Run& y : runs(g.oh, g.kh, g.stride_h, g.dilation_h, g.pad_top, g.h))
    for (const Run& x : columns) {
      Geometry& part = all.emplace_back(Region{{}, y, x}).plan.g = g;
      part.oh = y.outputs, part.ow = x.outputs, part.kh = y.taps, part.kw = x.taps;
      part.h = part.rows_seen(), part.w = part.columns_seen();
      part.pad_top = part.pad_left = 0;
    }
  return all;
}

double share(const Geometry& g) {
  double products = 0;
  for (const Region& r : cut(g)) products += double(r.plan.g.oh * r.plan.g.ow * r.plan.g.taps());
  return products > 0 ? products / double(g.oh * g.ow * g.taps()) : 1;
}

bool fits(const Geometry& g) { return share(g) < 1; }

template <class T> index packed_size(const Plan& plan) {
  index all = 0;
  for (const Region& r : plan.regions) all = checked_add(all, r.plan.packed_bytes);
  return all / index{sizeof(T)};
}

template <class T> void pack(const Plan& plan, const WeightView& w, T* dst) {
  for (const Region& r : plan.regions) {
    WeightView part = w;
    part.data = w.at(r.rows.tap * w.sh + r.columns.tap * w.sw);
    r.plan.algorithm->driver.of<T>().pack(r.plan, part, dst);
    dst += r.plan.packed_bytes / index{sizeof(T)};
  }
}

template <class T> void run(const Call<T>& call) {
  const T* weight = call.weight;
  for (const Region& r : call.plan.regions) {
    const Geometry& g = r.plan.g;
    konv::run<T>({r.plan, weight, call.bias, call.x.part(r.rows.cell, r.columns.cell, g.h, g.w),
                  call.y.part(r.rows.output, r.columns.output, g.oh, g.ow), call.n});
    weight += r.plan.packed_bytes / index{sizeof(T)};
  }
}

const Algorithm algorithm = {"regions", "regions", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};
}  // namespace konv::regions
