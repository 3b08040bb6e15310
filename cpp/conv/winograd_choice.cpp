// Which Winograd transforms there are for a geometry, how exact they are and what they cost.
//
// Exactness. Largest error over max|y|, in units of 1e-6, on N(0,1) images and Kaiming-normal weights, worst of three
// instruction sets and of several draws, against float64; in brackets a direct float32 sum of the same data.
// 'gradient' is the weight's, which sums tiles, not channels, in blocks: a bound for any number (a direct sum: 5).
//
// The transform itself gives `base`; a long sum adds to it like any other. base * sqrt(1 + channels/36) bounds every
// figure; a channel counts once for each slice of the kernel (winograd_tiling.hpp), and the slices of a long one, of
// which some are nearly empty, err up to 1.35 times as much. Where windows are larger than the image, outputs are
// smaller, errors are not. A direct sum errs by some 0.04e-6 times the root of its products' number. 'high' takes what
// stays under 1e-5 and 16 direct errors, of bases up to 5.5.
#include <algorithm>
#include <cmath>
#include "winograd.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {
namespace {

struct Transform {
  int mh, mw, r;
  bool both;              // axes; else along one of them
  double base, gradient;  // errors, in units of 1e-6
};

// clang-format off
constexpr Transform known[] = {
    // mh, mw, r, both, base, gradient  3 channels   16         64         256        512
    {2, 2, 3, true,  0.25, 2.2},  //    0.2 (0.2)    0.2 (0.5)  0.4 (0.9)  0.6 (2.0)  0.9 (2.6)
    {3, 3, 3, true,  1.2,  4},    //    0.8 (0.2)    0.8 (0.5)  1.5 (0.9)  2.7 (2.0)  3.4 (2.6)
    {4, 4, 3, true,  1.5,  4},    //    1.4 (0.2)    1.5 (0.5)  1.8 (0.9)  3.5 (2.0)  5.0 (2.6)
    {4, 5, 3, true,  3.0,  0},    //    2.4 (0.2)    2.7 (0.5)  4.5 (0.9)  7.3 (2.0)  11  (2.6)  high: to 364
    {5, 4, 3, true,  3.0,  0},    //    the same; neither is used for gradients
    {5, 5, 3, true,  5.3,  12},   //    3.7 (0.2)    4.4 (0.5)  7.3 (0.9)  13  (2.0)  20  (2.6)  high: 10 to 92
    {6, 6, 3, true,  6.5,  15},   //    6.4 (0.2)    5.7 (0.5)  10  (0.9)  22  (2.0)  26  (2.6)
    {3, 3, 2, true,  0.35, 4},    //    0.2 (0.1)    0.3 (0.4)  0.4 (0.6)  0.9 (1.5)  0.9 (1.5)
    {4, 4, 2, true,  1.6,  4},    //    1.2 (0.1)    1.3 (0.4)  1.6 (0.6)  3.3 (1.5)  3.7 (1.5)
    {5, 5, 2, true,  1.7,  4},    //    1.3 (0.1)    1.6 (0.4)  2.1 (0.6)  4.6 (1.5)  5.6 (1.5)
    {3, 3, 4, true,  1.3,  6},    //    0.7 (0.3)    0.8 (0.9)  2.0 (1.8)  2.8 (3.8)  3.8 (3.6)
    {5, 5, 4, true,  6.0,  25},   //    5.0 (0.3)    5.4 (0.9)  8.7 (1.8)  14  (3.8)  21  (3.6)
    {2, 2, 5, true,  1.0,  8},    //    0.9 (0.4)    0.8 (0.8)  1.5 (1.5)  2.3 (3.1)  3.7 (3.8)
    {4, 4, 5, true,  5.0,  30},   //    4.8 (0.4)    4.5 (0.8)  7.1 (1.5)  15  (3.1)  19  (3.8)  high: to 108
    {2, 2, 7, true,  4.5,  50},   //    4.3 (0.5)    4.8 (1.0)  5.9 (2.3)  11  (4.0)  14  (5.2)  high: to 141
    {4, 4, 3, false, 0.55, 3.5},  //    0.5 (0.1)    0.6 (0.4)  1.0 (0.7)  1.8 (1.1)  1.9 (1.9)
    {4, 4, 5, false, 1.2,  7},    //    0.9 (0.2)    1.1 (0.5)  1.5 (0.7)  3.8 (1.2)  4.6 (2.2)
    {2, 2, 7, false, 1.1,  9},    //    1.0 (0.2)    1.0 (0.5)  1.5 (1.0)  2.9 (1.8)  4.2 (2.5)
};
// clang-format on

// Along one axis a stride or a dilation may be cut, not both; only a stride of 1 has kernels longer than r. Phases of a
// dilation wider than the output would share nothing.
bool axis_fits(const Transform& f, index kernel, index stride, index dilation, index outputs) {
  return stride == 1 ? kernel >= f.r && dilation <= outputs : ceil_div(kernel, stride) == f.r && dilation == 1;
}

bool matches(const Transform& f, const Geometry& g) {
  const bool h = axis_fits(f, g.kh, g.stride_h, g.dilation_h, g.oh);
  const bool w = axis_fits(f, g.kw, g.stride_w, g.dilation_w, g.ow);
  const bool no_h = g.kh == 1 && g.stride_h == 1, no_w = g.kw == 1 && g.stride_w == 1;
  return f.both ? h && w : (h && no_w) || (no_h && w);
}

// Of a window's taps, the share that the image can hold at once.
double seen(const Geometry& g) {
  if (g.mode != PadMode::zeros) return 1;
  const auto along = [](index k, index size, index step) {
    return std::min(1.0, double(ceil_div(size, step)) / double(k));
  };
  return along(g.kh, g.h, g.dilation_h) * along(g.kw, g.w, g.dilation_w);
}

// Costs in multiply-adds, fitted to 1,600 random layers on AVX2 (Zen 3) and 1,400 on AVX-512 (Zen 4, newer memory); the
// choices lose 2 % and 1 to 4 % to the best (single losses counted up to 1.4). For each product of a tile, its
// transforms take so many for a channel (under a dilation or in slices; under a stride; more of many channels, which
// leave the caches) and for an output (more of few). Products run at some share of a direct sum's rate. Reading a
// weight takes little from the last-level cache (of more than 1 MB), much from memory (20 MB). A group takes two tiles
// more; to bring in a row for one tile or two that stand alone in it takes 120.
struct Costs { double plain, sliced, strided, output, rate, cached, memory; };
constexpr Costs avx2 = {9, 16, 24, 10, 0.83, 2, 16}, avx512 = {8, 12, 20, 11, 1.0, 3, 8};

// For a gradient, transforms take about 12, a direct sum 0.9 of the products' time; D is transformed once a call for
// every pair of channels, about 6 multiply-adds for each product, spread over four images (no choice knows the batch).
Candidate candidate_of(const Transform& f, const Tiling& t, const Geometry& g, const Costs& costs, Sum sum) {
  const double rows = double(Rows(t, g.group_c()).all), products = double(t.products());  // rows: of all products
  const double across = double(t.w.phases * t.w.tiles), tiles = double(t.h.phases * t.h.tiles) * across;
  const double oc = double(g.group_oc()), lanes = double(round_up(g.group_oc(), 16)), values = lanes * products;
  const double taps = double(g.group_c() * g.taps()) * oc, direct = double(g.oh * g.ow) * taps, weights = rows * lanes;
  const bool sliced = t.slices() > 1 || t.w.dilation > 1;
  const double in = g.stride_h * g.stride_w > 1 ? costs.strided : sliced ? costs.sliced : costs.plain;
  const double channels = rows / products, grows = 1 + channels / 768, few = channels < 6 ? 1.5 : 1;
  const double alone = across > 2 ? 0 : double(g.group_c() * t.slices() * t.h.products()) / across;
  const double transforms =
      sum == Sum::gradient ? 12 * (rows + values) : in * grows * rows + 120 * alone + costs.output * few * values;
  const index down = t.h.phases * t.h.tiles;  // rows of tiles: threads seldom find even shares of an odd number
  const double uneven = down > 3 && down % 2 && sum == Sum::outputs ? 0.5 / double(down) : 0;
  const double compute = (tiles + (g.groups > 1 ? 2 : 0)) * (weights + transforms) * (1 + uneven);
  const auto streaming = [&](double weights) {
    return weights > 5e6 ? costs.memory * weights : weights > 250e3 ? costs.cached * weights : 0;
  };
  const double cost = sum == Sum::gradient ? (compute + 6 * weights / 4) / (direct / 0.9)
                                           : (compute + streaming(weights)) / (costs.rate * direct + streaming(taps));

  const double grown = std::sqrt(1 + double(g.group_c() * t.slices()) / 36) * (t.is_long() ? 1.35 : 1);
  const double error = sum == Sum::gradient ? f.gradient : f.base * grown / std::pow(seen(g), 0.75);
  const auto edges = [](index rows, index columns) { return std::to_string(rows) + "x" + std::to_string(columns); };
  const std::string name = "winograd F(" + edges(t.h.m, t.w.m) + "," + edges(t.h.r, t.w.r) + ")";
  return {f.mh, f.mw, f.r, 1e-6 * error, tiles * rows * oc / direct, cost, name};
}
}  // namespace

std::vector<Candidate> candidates(const konv::Problem& p, Precision precision, Sum sum) {
  const Geometry& g = p.g;
  const Costs& costs = p.isa->tiles.f32.lanes > 8 ? avx512 : avx2;
  std::vector<Candidate> all;
  if (precision == Precision::highest || !is_floating(p.scalar)) return all;
  if (g.oh <= 0 || g.ow <= 0 || g.group_c() <= 0 || g.group_oc() <= 0) return all;
  for (const Transform& f : known) {
    if (!matches(f, g)) continue;
    const Tiling t(g, f.mh, f.mw, f.r);
    if (t.slices() > (sum == Sum::gradient ? 1 : max_slices) || (sum == Sum::gradient && f.mh != f.mw)) continue;
    if (t.is_long() && t.products() * t.slices() * g.group_c() > 1 << 17) continue;  // V of a few tiles would be large
    const Candidate candidate = candidate_of(f, t, g, costs, sum);
    const double direct = 0.04e-6 * std::sqrt(double(g.group_c() * g.taps()) * seen(g));
    const double most = sum == Sum::outputs ? std::min(1e-5, 16 * direct) : 1e-5;
    const bool exact = precision == Precision::high ? f.base < 5.5 && candidate.error <= most : candidate.error <= 1e-4;
    if (exact || p.scalar != Scalar::f32) all.push_back(candidate);
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  return all;
}
}  // namespace konv::winograd
