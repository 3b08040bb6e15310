// Which Winograd transforms there are for a geometry, how exact they are and what they cost.
//
// Exactness. Largest error over max|y|, in units of 1e-6, on N(0,1) images and Kaiming-normal weights, worst of three
// instruction sets and of several draws, against float64; in brackets a direct float32 sum of the same data:
//
//   transform           base   3 channels    16          64          256         512         gradient
//   F(2x2,3x3)          0.25   0.2 (0.2)   0.2 (0.5)   0.4 (0.9)   0.6 (2.0)   0.9 (2.6)     2.2
//   F(4x4,3x3)          1.5    1.4 (0.2)   1.5 (0.5)   1.8 (0.9)   3.5 (2.0)   5.0 (2.6)     4
//   F(6x6,3x3)          6.5    6.4 (0.2)   5.7 (0.5)   10  (0.9)   22  (2.0)   26  (2.6)     15   medium
//   F(3x3,2x2)          0.35   0.2 (0.1)   0.3 (0.4)   0.4 (0.6)   0.9 (1.5)   0.9 (1.5)     4
//   F(4x4,2x2)          1.6    1.2 (0.1)   1.3 (0.4)   1.6 (0.6)   3.3 (1.5)   3.7 (1.5)     4
//   F(5x5,2x2)          1.7    1.3 (0.1)   1.6 (0.4)   2.1 (0.6)   4.6 (1.5)   5.6 (1.5)     4
//   F(3x3,4x4)          1.3    0.7 (0.3)   0.8 (0.9)   2.0 (1.8)   2.8 (3.8)   3.8 (3.6)     6
//   F(5x5,4x4)          6.0    5.0 (0.3)   5.4 (0.9)   8.7 (1.8)   14  (3.8)   21  (3.6)     25   medium
//   F(2x2,5x5)          1.0    0.9 (0.4)   0.8 (0.8)   1.5 (1.5)   2.3 (3.1)   3.7 (3.8)     8
//   F(4x4,5x5)          5.0    4.8 (0.4)   4.5 (0.8)   7.1 (1.5)   15  (3.1)   19  (3.8)     30   medium past 108
//   channels F(2x2,7x7)          4.5    4.3 (0.5)   4.8 (1.0)   5.9 (2.3)   11  (4.0)   14  (5.2)     50   medium past
//   141 channels F(4,3) one axis     0.55   0.5 (0.1)   0.6 (0.4)   1.0 (0.7)   1.8 (1.1)   1.9 (1.9)     3.5 F(4,5)
//   one axis     1.2    0.9 (0.2)   1.1 (0.5)   1.5 (0.7)   3.8 (1.2)   4.6 (2.2)     7 F(2,7) one axis     1.1    1.0
//   (0.2)   1.0 (0.5)   1.5 (1.0)   2.9 (1.8)   4.2 (2.5)     9
//
// The transform itself gives `base`; a long sum adds to it like any other. base * sqrt(1 + channels/36) bounds every
// figure; with stride s, s*s phases a channel count. The gradient of the weight sums tiles instead of channels, blocks
// of them at a time; its bound holds for any number (a direct sum of 10,000 pixels: 5). 'high' takes what stays under
// 1e-5 and 16 times the direct error, 'medium' what stays under 1e-4.
#include <algorithm>
#include <cmath>

#include "winograd.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {
namespace {

struct Transform {
  int m, r;
  bool square;            // else along one axis
  double base, gradient;  // errors, in units of 1e-6: see the table
  bool near;              // within 16 times the direct error
};

constexpr Transform known[] = {
    {2, 3, true, 0.25, 2.2, true}, {4, 3, true, 1.5, 4, true},   {6, 3, true, 6.5, 15, false},
    {3, 2, true, 0.35, 4, true},   {4, 2, true, 1.6, 4, true},   {5, 2, true, 1.7, 4, true},
    {3, 4, true, 1.3, 6, true},    {5, 4, true, 6.0, 25, false}, {2, 5, true, 1.0, 8, true},
    {4, 5, true, 5.0, 30, true},   {2, 7, true, 4.5, 50, true},  {4, 3, false, 0.55, 3.5, true},
    {4, 5, false, 1.2, 7, true},   {2, 7, false, 1.1, 9, true},
};

// Stride and dilation become phases, of one kind along each axis; an axis without a transform has one tap.
bool axis_fits(index kernel, index stride, index dilation) {
  if (Axis::taps(kernel, stride) == 1) return kernel == 1 && stride == 1;
  return stride == 1 || dilation == 1;
}

bool matches(const Transform& f, const Geometry& g) {
  const index rh = Axis::taps(g.kh, g.stride_h), rw = Axis::taps(g.kw, g.stride_w);
  if (!axis_fits(g.kh, g.stride_h, g.dilation_h) || !axis_fits(g.kw, g.stride_w, g.dilation_w)) return false;
  if (g.stride_h * g.stride_w > max_phases) return false;
  return f.square ? rh == f.r && rw == f.r : (rh == f.r && rw == 1) || (rh == 1 && rw == f.r);
}

// Time that reading weights adds, in multiply-adds of one thread: little from the last-level cache, much from memory.
double streaming(double weights) {
  const double bytes = 4 * weights;
  return bytes > 20e6 ? 16 * weights : bytes > 1e6 ? 2 * weights : 0;
}

// Costs in multiply-adds. A tile's transforms take about 12 for each of its products and channels, in and out; a direct
// sum reaches 0.9 of the rate of the products.
struct Cost {
  double products;  // of one output of one image, against a direct sum
  double compute, weights, direct, direct_weights;
};

Cost cost_of(const Transform& f, const Geometry& g) {
  const Tiling t = Tiling::of(g, g.kh == 1 ? 1 : f.m, g.kw == 1 ? 1 : f.m);
  double rows = 0;  // operand rows of all products of a tile
  for (index p = 0; p < t.stride_phases(); p++) rows += t.h.used(p / t.w.stride) * t.w.used(p % t.w.stride);
  rows *= static_cast<double>(g.group_c());
  const double tiles = static_cast<double>(t.h.phases * t.h.tiles) * static_cast<double>(t.w.phases * t.w.tiles);
  const double oc = static_cast<double>(g.group_oc()), lanes = static_cast<double>(round_up(g.group_oc(), 16));
  const double taps = static_cast<double>(g.group_c() * g.taps()) * oc;
  const double direct = static_cast<double>(g.oh * g.ow) * taps;
  const double transforms = 12 * (rows + static_cast<double>(t.products()) * lanes);
  return {tiles * rows * oc / direct, tiles * (rows * lanes + transforms), rows * lanes, direct / 0.9, taps};
}

Candidate candidate_of(const Transform& f, const Geometry& g, double error, double products, double cost) {
  const auto edge = [](index rows, index columns) { return std::to_string(rows) + "x" + std::to_string(columns); };
  const index rh = Axis::taps(g.kh, g.stride_h), rw = Axis::taps(g.kw, g.stride_w);
  const std::string tile = edge(rh == 1 ? 1 : f.m, rw == 1 ? 1 : f.m);
  return {f.m, error, products, cost, "winograd F(" + tile + "," + edge(rh, rw) + ")"};
}

bool exact_enough(const Transform& f, double error, Precision precision, Scalar scalar) {
  if (precision == Precision::highest) return false;
  if (scalar != Scalar::f32) return true;
  return precision == Precision::high ? f.near && error <= 1e-5 : error <= 1e-4;
}

bool is_empty(const Geometry& g) { return g.oh <= 0 || g.ow <= 0 || g.group_c() <= 0 || g.group_oc() <= 0; }

std::vector<Candidate> sorted(std::vector<Candidate> all) {
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  return all;
}

}  // namespace

bool fits(const Geometry& g) {
  return std::any_of(std::begin(known), std::end(known), [&](const Transform& f) { return matches(f, g); });
}

bool grad_weight_fits(const Geometry& g) { return fits(g) && g.stride_h == 1 && g.stride_w == 1; }

std::vector<Candidate> candidates(const Geometry& g, Precision precision, Scalar scalar) {
  std::vector<Candidate> all;
  if (is_empty(g)) return all;
  for (const Transform& f : known) {
    if (!matches(f, g)) continue;
    const double channels = static_cast<double>(g.group_c() * g.stride_h * g.stride_w);
    const double error = 1e-6 * f.base * std::sqrt(1 + channels / 36);
    const Cost c = cost_of(f, g);
    const double cost = (c.compute + streaming(c.weights)) / (c.direct + streaming(c.direct_weights));
    if (exact_enough(f, error, precision, scalar)) all.push_back(candidate_of(f, g, error, c.products, cost));
  }
  return sorted(all);
}

// D is transformed once a call for every pair of channels, about 6 multiply-adds for each product: worth it where four
// images pay for it (a choice must not depend on the batch, and gradients are of batches).
std::vector<Candidate> grad_weight_candidates(const Geometry& g, Precision precision, Scalar scalar) {
  std::vector<Candidate> all;
  if (is_empty(g) || !grad_weight_fits(g)) return all;
  for (const Transform& f : known) {
    if (!matches(f, g)) continue;
    const Cost c = cost_of(f, g);
    const double cost = (c.compute + 6 * c.weights / 4) / c.direct, error = 1e-6 * f.gradient;
    if (exact_enough(f, error, precision, scalar)) all.push_back(candidate_of(f, g, error, c.products, cost));
  }
  return sorted(all);
}

}  // namespace konv::winograd
