// Which algorithm runs for which geometry, and why. See plan.hpp for what a choice may depend on.
//   groups of one channel and few filters            depthwise; channel_lane on images too narrow for vectors
//   precision allows a transform that saves work     winograd (it says itself for which kernels and how exact it is)
//   few pixels an image, or many output channels     output_lane: they fill the vectors, whatever the stride
//   the rest                                         pixel_lane
#include "plan.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include "conv/direct.hpp"
#include "conv/edges.hpp"
#include "conv/winograd.hpp"
#include "cpu.hpp"

namespace konv {
namespace {

bool can_run(const Problem& p, const Algorithm& algorithm) {
  return algorithm.fits(p.g) && (p.sums != Scalar::i64 || algorithm.driver.i64.run);
}

constexpr const char* short_vectors = " of short vectors";

Plan plan_of(const Problem& p, const Algorithm& algorithm, std::string reason) {
  Plan plan{p, &algorithm, 1, algorithm.title, std::move(reason), "", 0};
  const bool dense = &algorithm != &depthwise::algorithm && &algorithm != &channel_lane::algorithm;
  with_compute_type(p.sums, [&](auto t) {
    using T = decltype(t);
    if (&algorithm == &output_lane::algorithm) plan.tile = p.isa->tiles.of<T>().o_columns;
    else if (dense) plan.tile = static_cast<int>(direct::tile_rows<T>(p));
  });
  const int left_out = static_cast<int>(100 * (1 - Edges(p.g).left) + 0.5);
  if (&algorithm == &output_lane::algorithm && left_out)
    plan.reason += "; " + std::to_string(left_out) + " % are with padding and left out";
  if (dense && direct::in_pairs(p)) plan.name += " of pairs";
  if (p.narrow) plan.name += short_vectors;
  return plan;
}

Plan plan_of(const Problem& p, const winograd::Candidate& transform, std::string reason) {
  const std::string name = transform.name + (p.narrow ? short_vectors : "");
  return {p, &winograd::algorithm, transform.mh, name, std::move(reason), "", 0, transform.mw, transform.r};
}

std::string saving(const winograd::Candidate& transform) {
  const int saved = static_cast<int>(100 * (1 - transform.products) + 0.5);
  return "a transform saves " + std::to_string(saved) + " % of the multiplications";
}

// Times of the two direct sums in products of full vectors, fitted to 2,500 random layers on AVX2 (Zen 3), 1,100 on
// AVX-512 (Zen 4); their choice loses 1.5 % (2.4 %) to the better one in the mean, with 1x1 kernels 2 to 3 %. Pixels
// must be staged, each cell for some products; shared cells once for each block of rows; rows end with a part of a
// vector. Channels leave the lanes for some products an output, more where outputs leave the caches; they fill vectors
// in part, a vector alone takes as long as 1.6 (under 1x1 kernels also the last of three: channels lie in many pages).
struct Costs { double stage, strided, leave; };
constexpr Costs avx2 = {11, 22, 6}, avx512 = {4.5, 4.5, 10};

double pixel_lane_time(const Geometry& g, double lanes, const Costs& costs) {
  if (g.taps() == 1) return 1 + 10 / double(g.group_oc());
  const double vectors = std::ceil(double(g.ow) / lanes), reach = double((g.kh - 1) * g.dilation_h + 1);
  const double across = double(g.columns_seen()), step = double(g.stride_h);
  const double fit = (double(pixel_lane::cache_bytes / 4) / (double(g.group_c()) * across) - reach) / step + 1;
  const double cells = across * (step + (reach - step) / std::clamp(fit, 1.0, double(g.oh)));  // of each output row
  const double stage = (g.stride_w > 1 ? costs.strided : costs.stage) * cells / double(g.taps() * g.group_oc() * g.ow);
  return vectors * lanes / double(g.ow) * (1 + 0.5 / (vectors * vectors)) * (1 + stage);
}
double output_lane_time(const Geometry& g, double lanes, const Costs& costs) {
  const double filters = double(g.group_oc()), vectors = std::ceil(filters / lanes), k = double(g.group_c() * g.taps());
  const double leave = costs.leave + 2 * std::max(0.0, std::log2(double(g.oh * g.ow) / 256));
  const double alone = g.taps() > 1 && panel_vectors(index(vectors)) > 2 ? 0 : 0.6 * std::fmod(vectors, 2);
  const double pages = g.taps() == 1 && !direct::flattens(g) ? 1 + 0.15 * std::max(0.0, std::log2(k / 192)) : 1;
  return (vectors + alone) * lanes / filters * (Edges(g).time + leave / k) * pages;
}

// Which direct sum, with so many lanes.
bool output_channels_in_lanes(const Geometry& g, index lanes, const Costs& costs) {
  const index pixels = g.oh * g.ow, k = g.group_c() * g.taps(), filters = g.group_oc();
  if (!pixel_lane::algorithm.fits(g) || (filters >= lanes && k > 16384)) return true;  // a block would outgrow L2
  if (filters < lanes && g.stride_w == 1 && Edges(g).time > 0.6) return false;
  if (g.stride_w > 2 && k >= 32 && filters >= lanes) return true;
  if (g.taps() == 1 && k >= 64 && pixels <= (filters < 2 * lanes ? 3 : 7) * lanes) return true;
  // Pixels of a small image leave long vectors half empty, and do not repay the packing (0.94 to 1.19).
  if (direct::flattens(g) && (lanes <= 8 || pixels > 13 * lanes)) return false;
  return output_lane_time(g, double(lanes), costs) < pixel_lane_time(g, double(lanes), costs);
}

// By the CPU's shorter vectors, where channels or columns would leave long ones half empty.
Problem narrowed(Problem p, bool narrow) {
  if (narrow) p.isa = shorter_vectors(*p.isa).isa, p.narrow = true;
  return p;
}

Plan direct_plan(const Problem& p, index lanes, const Shorter& half) {
  const Costs& all = half.isa ? avx512 : avx2;
  const auto in_lanes = [&](index l) { return output_channels_in_lanes(p.g, l, all); };
  const auto time = [&](index l) { return (in_lanes(l) ? output_lane_time : pixel_lane_time)(p.g, double(l), all); };
  const bool narrow = half.isa && !direct::in_pairs(p) && half.time * time(lanes / 2) < time(lanes);
  if (in_lanes(narrow ? lanes / 2 : lanes))
    return plan_of(narrowed(p, narrow), output_lane::algorithm, "direct sums: output channels fill the vectors");
  return plan_of(narrowed(p, narrow), pixel_lane::algorithm,
                 direct::flattens(p.g) ? "1x1: the image itself is the matrix"
                                       : "direct sums: neighbouring pixels fill the vectors");
}

// Whether filters of one channel should share what is read of it, in the pixel-lane tile, rather than pass over it one
// by one. Measured (AVX2; 1 to 64 filters of 3x3 to 11x11): 0.98 to 3.2 times as fast; narrow images 0.92.
bool filters_share_pixels(const Geometry& g) {
  return g.group_oc() > 32 || (g.group_oc() >= 6 && (g.taps() > 9 || g.stride_w > 1 || g.ow >= 48));
}

// Columns of outputs up to which channels fill vectors better than pixels (0.9 to 3 times as fast; of 7 to 56 columns,
// vectors of 16 to 64 bytes). Wide kernels share the cells that they load, best those of 5 and 7 columns.
index narrow_columns(const Geometry& g, index lanes) {
  if (g.kw == 1 || g.stride_w > 2 || (g.kw < 5 && (g.stride_w > 1 || lanes < 8))) return 14;
  return g.dilation_w == 1 && (g.kw == 5 || g.kw == 7) ? 28 : 20;
}

Plan choose(const Problem& p) {
  const index lanes = with_compute_type(p.sums, [&](auto t) { return index{p.isa->tiles.of<decltype(t)>().lanes}; });
  const Shorter half = shorter_vectors(*p.isa);
  if (lanes >= 4 && p.g.c >= lanes && p.g.ow <= narrow_columns(p.g, lanes) && can_run(p, channel_lane::algorithm))
    return plan_of(p, channel_lane::algorithm, "every channel has a filter of its own: channels fill the vectors");
  if (can_run(p, depthwise::algorithm) && !filters_share_pixels(p.g)) {
    // Under 3x3 loads take the time: short vectors 0.93 to 1.3 on 14 to 224 columns, under larger kernels 0.82 to 1.1,
    // with a stride of 2 both ways 0.78 to 0.95, as neighbouring columns are loaded together.
    const bool every_second = p.g.stride_h == 2 && p.g.stride_w == 2 && p.g.ow >= lanes;
    const bool narrow = half.isa && p.g.taps() <= 9 && !every_second && half.time < 1.3;
    return plan_of(narrowed(p, narrow), depthwise::algorithm, "every channel has filters of its own");
  }
  const auto transforms = winograd::candidates(p, p.precision);
  const double transformed = transforms.empty() ? 1 : transforms.front().cost;
  const Plan direct = direct_plan(p, lanes, half);
  double untransformed = direct::in_pairs(p) ? 0.6 : 1;  // half of the products, and the staging
  if (direct.algorithm == &output_lane::algorithm)       // tiles of fewer outputs are slower
    untransformed *= std::min(1.0, Edges(p.g).time + 0.03);
  if (transformed >= untransformed) return direct;
  // Short vectors: 1.05 to 1.3 times as fast with 24 filters, 0.95 with 40.
  const double filled = double(round_up(p.g.group_oc(), lanes)) / double(round_up(p.g.group_oc(), lanes / 2));
  return plan_of(narrowed(p, half.isa && filled > 1.1 * half.time), transforms.front(), saving(transforms.front()));
}

// A name from backends.force_plan: an algorithm, or "winograd" with its tile and vectors as the plan's own name says.
Plan force(const Problem& p, const std::string& name) {
  if (shorter_vectors(*p.isa).isa && name.ends_with(short_vectors))
    return force(narrowed(p, true), name.substr(0, name.find(short_vectors)));
  const std::string reason = "asked for by name: force_plan or autotune";
  for (const Algorithm* algorithm :
       {&pixel_lane::algorithm, &output_lane::algorithm, &depthwise::algorithm, &channel_lane::algorithm})
    if (name == algorithm->name && can_run(p, *algorithm)) return plan_of(p, *algorithm, reason);
  for (const auto& transform : winograd::candidates(p, Precision::medium))
    if (name == winograd::algorithm.name || name == transform.name) return plan_of(p, transform, reason);
  throw std::invalid_argument("plan '" + name + "' cannot run this geometry, or there is no such plan; there are " +
                              "winograd, pixel_lane, output_lane, depthwise and channel_lane");
}

// What the packed form of a weight depends on.
std::string layout_of(const Plan& plan) {
  const Geometry& g = plan.g;
  std::string text = plan.name + ' ' + plan.isa->name;
  for (index part : {index(plan.scalar), index(plan.parts), index(plan.tile), g.c, g.oc, g.kh, g.kw, g.groups,
                     g.stride_h, g.stride_w, g.dilation_h, g.dilation_w})
    text += ' ' + std::to_string(part);
  return text;
}
}  // namespace

// float holds whole numbers up to 2^24; of double, stores take the last digits of those up to 2^51 (isa/rows.cpp).
Scalar summed_in(const Geometry& g, Scalar scalar) {
  if (is_floating(scalar)) return scalar == Scalar::f64 ? Scalar::f64 : Scalar::f32;
  const double most = scalar == Scalar::u8 ? 255 : std::ldexp(1.0, static_cast<int>(8 * scalar_bytes(scalar) - 1));
  const double largest = std::max(1.0, double(g.group_c()) * double(g.taps())) * most * most + most;
  return largest < 0x1p24 ? Scalar::f32 : largest < 0x1p51 ? Scalar::f64 : Scalar::i64;
}

void check_sizes(const Geometry& g, Scalar scalar) {
  const index bytes = scalar_bytes(scalar) * 2;
  for (index size : {g.c, g.h, g.w, g.oh, g.ow})
    if (size < 0) throw std::invalid_argument("konv: a size is negative");
  for (index size : {g.oc, g.kh, g.kw, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w, g.groups})
    if (size < 1) throw std::invalid_argument("konv: outputs, kernel, stride, dilation and groups must be positive");
  if (g.c % g.groups || g.oc % g.groups) throw std::invalid_argument("konv: channels are not divisible by groups");
  checked_mul(checked_mul(checked_mul(g.c, g.h), g.w), bytes);
  checked_mul(checked_mul(checked_mul(g.oc, g.oh), g.ow), bytes);
  checked_mul(checked_mul(checked_mul(g.oc + 64, g.group_c()), checked_mul(g.kh, g.kw)), bytes);
  for (index pad : {g.pad_top, g.pad_left})
    if (pad < -(index{1} << 61) || pad > index{1} << 61) throw std::overflow_error("konv: a pad does not fit");
  // The last cell that a window reads, in rows and in columns.
  checked_add(std::abs(g.pad_top), checked_add(checked_mul(g.oh, g.stride_h), checked_mul(g.kh, g.dilation_h)));
  checked_add(std::abs(g.pad_left), checked_add(checked_mul(g.ow, g.stride_w), checked_mul(g.kw, g.dilation_w)));
}

Plan make_plan(const Problem& p, const std::string& forced) {
  Plan plan = forced.empty() ? choose(p) : force(p, forced);
  plan.layout = layout_of(plan);
  with_compute_type(p.sums, [&](auto t) {
    plan.packed_bytes = checked_mul(plan.algorithm->driver.of<decltype(t)>().packed_size(plan), sizeof t);
  });
  return plan;
}

std::vector<std::string> plan_candidates(const Problem& p) {
  constexpr double hopeless = 1.3;  // estimates are rarely further from the truth
  const Plan chosen = make_plan(p);
  std::vector<std::string> names;
  const auto add = [&](const std::string& name, bool sensible = true) {
    if (sensible && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (chosen.algorithm == &winograd::algorithm) add(chosen.name);
  else add(chosen.algorithm->name + std::string(chosen.narrow ? short_vectors : ""));
  int transforms = 2;
  for (const auto& transform : winograd::candidates(p, p.precision))
    add(transform.name, transforms-- > 0 && transform.cost < hopeless);
  const bool alone = can_run(p, depthwise::algorithm);
  add(depthwise::algorithm.name, alone);
  add(channel_lane::algorithm.name, alone && can_run(p, channel_lane::algorithm));
  add(pixel_lane::algorithm.name, can_run(p, pixel_lane::algorithm));
  add(output_lane::algorithm.name, !alone || filters_share_pixels(p.g));
  return names;
}

GradWeightPlan plan_grad_weight(const Problem& p, const std::string& forced) {
  if (!is_floating(p.scalar)) throw std::invalid_argument("konv: integers have no gradient");
  const bool free = forced.empty();
  if (free ? p.g.group_oc() <= 4 : forced == "depthwise")
    return {p, GradWeight::depthwise, "gradient depthwise", "few output channels a group: pixels fill the vectors"};
  if (p.parts == 1)
    for (const auto& c : winograd::candidates(p, free ? p.precision : Precision::medium, winograd::Sum::gradient))
      if (free ? c.cost < 0.95 : forced == "winograd" || forced == c.name)
        return {p, GradWeight::winograd, "gradient " + c.name, saving(c), c.mh};
  if (free || forced == "matrix") return {p, GradWeight::matrix, "gradient matrix", "output channels fill the vectors"};
  throw std::invalid_argument("gradient plan '" + forced + "' does not exist or cannot run this geometry; there are " +
                              "winograd, matrix and depthwise");
}

Scratch scratch_of(const Plan& plan, index n) {
  const Geometry& g = plan.g;
  checked_mul(n, checked_mul(g.c * g.h + g.oc * g.oh + 1, std::max(g.w, g.ow)));
  // Drivers form addresses from it, and read none before their Workspace. Images that begin within a vector take most.
  alignas(64) char nothing[64] = {};
  const ImageView x =
      dense_view<const void>(nothing + scalar_bytes(plan.scalar), plan.scalar, plan.parts, g.c, g.h, g.w);
  const OutputView y = dense_view<void>(nothing, plan.scalar, plan.parts, g.oc, g.oh, g.ow);
  return with_compute_type(plan.sums, [&](auto t) {
    using T = decltype(t);
    const T* none = reinterpret_cast<const T*>(nothing);
    return Workspace::asked_by([&] { run<T>({plan, none, none, x, y, n}); });
  });
}
}  // namespace konv
