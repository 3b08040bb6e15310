// Which algorithm runs for which geometry, and why. See plan.hpp for what a choice may depend on.
//
//   kernel of one channel for one channel            depthwise
//   precision allows a transform that saves work     winograd (it says itself for which kernels and how exact it is)
//   few pixels an image, long sums                   output_lane: a vector of pixels would be mostly padding
//   1x1, stride 1, no padding                        pointwise
//   the rest                                         planes
#include "plan.hpp"

#include <algorithm>
#include <stdexcept>

#include "conv/depthwise.hpp"
#include "conv/direct.hpp"
#include "conv/grad_weight.hpp"
#include "conv/winograd.hpp"
#include "workspace.hpp"

namespace konv {
namespace {

// Every product of sizes that drivers form from one image; throws when one does not fit.
void check_sizes(const Geometry& g, Scalar scalar) {
  const index bytes = scalar_bytes(scalar) * 2;
  for (index size : {g.c, g.h, g.w, g.oc, g.oh, g.ow, g.kh, g.kw})
    if (size < 0) throw std::invalid_argument("konv: a size is negative");
  if (g.groups < 1 || g.c % g.groups || g.oc % g.groups || g.kh < 1 || g.kw < 1)
    throw std::invalid_argument("konv: channels are not divisible by groups");
  if (g.stride_h < 1 || g.stride_w < 1 || g.dilation_h < 1 || g.dilation_w < 1)
    throw std::invalid_argument("konv: stride and dilation must be positive");
  checked_mul(checked_mul(checked_mul(g.c, g.h), g.w), bytes);
  checked_mul(checked_mul(checked_mul(g.oc, g.oh), g.ow), bytes);
  checked_mul(checked_mul(checked_mul(g.oc + 64, g.group_c()), checked_mul(g.kh, g.kw)), bytes);
  // The last cell that a window reads, in rows and in columns.
  checked_add(checked_mul(g.oh, g.stride_h), checked_mul(g.kh, g.dilation_h));
  checked_add(checked_mul(g.ow, g.stride_w), checked_mul(g.kw, g.dilation_w));
  for (index pad : {g.pad_top, g.pad_left})
    if (pad < -(index{1} << 61) || pad > index{1} << 61) throw std::overflow_error("konv: a pad does not fit");
}

struct Choice {
  Algorithm algorithm;
  int tile;
  std::string name, reason;
};

bool floating(Scalar s) { return s == Scalar::f32 || s == Scalar::f64 || s == Scalar::f16 || s == Scalar::bf16; }

Choice direct_choice(Algorithm algorithm, const Plan& plan, std::string reason) {
  int tile = 0;
  with_compute_type(plan.scalar, [&](auto t) {
    using T = decltype(t);
    tile = algorithm == Algorithm::output_lane ? plan.isa->tiles<T>().o_columns
                                               : static_cast<int>(direct::tile_rows<T>(*plan.isa, plan.g.group_oc()));
  });
  const char* name = algorithm == Algorithm::pointwise ? "direct pointwise"
                     : algorithm == Algorithm::planes  ? "direct planes"
                                                       : "direct output_lane";
  return {algorithm, tile, name, std::move(reason)};
}

Choice winograd_choice(const winograd::Candidate& candidate) {
  const int saved = static_cast<int>(100 * (1 - candidate.products) + 0.5);
  return {Algorithm::winograd, candidate.m, candidate.name,
          "a transform saves " + std::to_string(saved) + " % of the multiplications"};
}

// Measured on both widths of x86 vectors (channels 16 to 2048, maps 4x4 to 112x112). With output channels in the lanes
// the tile reuses more of what it loads and fits small maps; laying out its panel has to pay. Pixels need less of L2
// where registers are many.
template <class T>
bool prefers_output_lane(const Plan& plan) {
  const Geometry& g = plan.g;
  const auto& tiles = plan.isa->tiles<T>();
  const index lanes = tiles.lanes, pixels = g.oh * g.ow, k = g.group_c() * g.taps(), filters = g.group_oc();
  const bool few_registers = tiles.p_rows < 8;
  if (filters < lanes || k < 64) return false;
  if (pixels <= 3 * lanes) return true;
  if (filters < 2 * lanes || 5 * round_up(filters, lanes) > 6 * filters) return false;  // a fifth of the lanes empty
  if (pointwise::fits(g)) return pixels <= 100 || (few_registers && k >= 768);
  if (few_registers && filters < 4 * lanes) return false;
  return pixels <= 256 || (few_registers && g.stride_w > 1 && pixels <= 1024);
}

Choice choose(const Plan& plan) {
  const Geometry& g = plan.g;
  if (floating(plan.scalar)) {
    if (plan.parts == 1 && depthwise::fits(g))
      return {Algorithm::depthwise, 1, "depthwise", "every channel has filters of its own"};
    const auto candidates = winograd::candidates(g, plan.precision, plan.scalar);
    if (!candidates.empty() && candidates.front().cost < 0.9) return winograd_choice(candidates.front());
  }
  bool output_lane_first = false;
  with_compute_type(plan.scalar, [&](auto t) { output_lane_first = prefers_output_lane<decltype(t)>(plan); });
  if (output_lane_first)
    return direct_choice(Algorithm::output_lane, plan,
                         "few pixels or long sums: output channels fill the vectors better");
  if (pointwise::fits(g)) return direct_choice(Algorithm::pointwise, plan, "1x1: the image itself is the matrix");
  if (planes::fits(g))
    return direct_choice(Algorithm::planes, plan, "direct sums over padded planes of a block of rows");
  return direct_choice(Algorithm::output_lane, plan, "the kernel is too large for a table of distances");
}

// A name from backends.force_plan: an algorithm, or "winograd" with its tile as the plan's own name says.
Choice force(const Plan& plan, const std::string& name) {
  const Geometry& g = plan.g;
  const std::string reason = "asked for by name: force_plan or autotune";
  if (name == "output_lane") return direct_choice(Algorithm::output_lane, plan, reason);
  if (name == "planes" && planes::fits(g)) return direct_choice(Algorithm::planes, plan, reason);
  if (name == "pointwise" && pointwise::fits(g)) return direct_choice(Algorithm::pointwise, plan, reason);
  if (name == "depthwise" && floating(plan.scalar) && plan.parts == 1 && depthwise::fits(g))
    return {Algorithm::depthwise, 1, "depthwise", reason};
  if (name.rfind("winograd", 0) == 0 && floating(plan.scalar))
    for (const auto& candidate : winograd::candidates(g, Precision::medium, plan.scalar))
      if (name == "winograd" || name == candidate.name)
        return {Algorithm::winograd, candidate.m, candidate.name, reason};
  throw std::invalid_argument("plan '" + name + "' cannot run this geometry, or there is no such plan; there are " +
                              "winograd, pointwise, planes, output_lane and depthwise");
}

// The name by which force() finds a plan again.
std::string short_name(const Plan& plan) {
  const std::string direct = "direct ";
  return plan.name.rfind(direct, 0) == 0 ? plan.name.substr(direct.size()) : plan.name;
}

// What the packed form of a weight depends on.
std::string layout_of(const Plan& plan) {
  const Geometry& g = plan.g;
  std::string text = plan.name + ' ' + plan.isa->name;
  const auto add = [&](index number) {
    text += ' ';
    text += std::to_string(number);
  };
  const index parts[] = {static_cast<int>(plan.scalar), plan.parts, plan.tile, g.c, g.oc, g.kh, g.kw, g.groups};
  for (index part : parts) add(part);
  if (plan.algorithm == Algorithm::winograd)
    for (index part : {g.stride_h, g.stride_w, g.dilation_h, g.dilation_w}) add(part);
  return text;
}

}  // namespace

Plan make_plan(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa, Precision precision,
               const std::string& forced) {
  check_sizes(g, scalar);
  Plan plan{g, scalar, parts, &isa, precision, Algorithm::planes, 0, "", "", "", 0};
  Choice choice = forced.empty() ? choose(plan) : force(plan, forced);
  plan.algorithm = choice.algorithm;
  plan.tile = choice.tile;
  plan.name = std::move(choice.name);
  plan.reason = std::move(choice.reason);
  plan.layout = layout_of(plan);
  with_compute_type(scalar, [&](auto t) {
    using T = decltype(t);
    switch (plan.algorithm) {
      case Algorithm::winograd:
        if constexpr (!std::is_same_v<T, index>) plan.packed = winograd::packed_size<T>(plan);
        break;
      case Algorithm::depthwise:
        if constexpr (!std::is_same_v<T, index>) plan.packed = depthwise::packed_size<T>(plan);
        break;
      case Algorithm::pointwise:
        plan.packed = pointwise::packed_size<T>(plan);
        break;
      case Algorithm::planes:
        plan.packed = planes::packed_size<T>(plan);
        break;
      case Algorithm::output_lane:
        plan.packed = output_lane::packed_size<T>(plan);
        break;
    }
  });
  return plan;
}

std::vector<std::string> plan_candidates(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa,
                                         Precision precision) {
  const Plan chosen = make_plan(g, scalar, parts, isa, precision);
  constexpr double hopeless = 1.3;  // estimates are rarely further from the truth
  std::vector<std::string> names{short_name(chosen)};
  const auto add = [&](const std::string& name, bool sensible) {
    if (sensible && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (floating(scalar)) {
    index transforms = 0;
    for (const auto& candidate : winograd::candidates(g, precision, scalar))
      if (transforms++ < 2) add(candidate.name, candidate.cost < hopeless);
    add("depthwise", parts == 1 && depthwise::fits(g));
  }
  add("pointwise", pointwise::fits(g));
  add("planes", planes::fits(g) && !pointwise::fits(g));
  add("output_lane", chosen.algorithm != Algorithm::depthwise);
  return names;
}

GradWeightPlan plan_grad_weight(const Geometry& g, Scalar scalar, int parts, Precision precision,
                                const std::string& forced) {
  check_sizes(g, scalar);
  const GradWeightPlan matrix{GradWeight::matrix, "gradient matrix", "output channels fill the vectors"};
  const GradWeightPlan depthwise{GradWeight::depthwise, "gradient depthwise",
                                 "few output channels a group: pixels fill the vectors"};
  if (forced == "matrix") return matrix;
  if (forced == "depthwise") return depthwise;
  if (forced.empty() && grad_weight::few_outputs(g)) return depthwise;
  if (floating(scalar) && parts == 1 && (forced.empty() || forced.rfind("winograd", 0) == 0)) {
    const Precision exactness = forced.empty() ? precision : Precision::medium;
    for (const auto& candidate : winograd::candidates(g, exactness, scalar, winograd::Sum::gradient))
      if (forced.empty() ? candidate.cost < 0.95 : forced == "winograd" || forced == candidate.name)
        return {GradWeight::winograd, "gradient " + candidate.name, winograd_choice(candidate).reason, candidate.m};
  }
  if (forced.empty()) return matrix;
  throw std::invalid_argument("gradient plan '" + forced + "' does not exist or cannot run this geometry; there are " +
                              "winograd, matrix and depthwise");
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  switch (plan.algorithm) {
    case Algorithm::winograd:
      if constexpr (!std::is_same_v<T, index>) winograd::pack<T>(plan, w, dst);
      return;
    case Algorithm::depthwise:
      if constexpr (!std::is_same_v<T, index>) depthwise::pack<T>(plan, w, dst);
      return;
    case Algorithm::pointwise:
      return pointwise::pack<T>(plan, w, dst);
    case Algorithm::planes:
      return planes::pack<T>(plan, w, dst);
    case Algorithm::output_lane:
      return output_lane::pack<T>(plan, w, dst);
  }
}

template <class T>
void run(const Call<T>& call) {
  const Geometry& g = call.plan.g;
  if (call.n == 0 || g.oc == 0 || g.oh == 0 || g.ow == 0) return;  // drivers divide by these
  switch (call.plan.algorithm) {
    case Algorithm::winograd:
      if constexpr (!std::is_same_v<T, index>) winograd::run<T>(call);
      return;
    case Algorithm::depthwise:
      if constexpr (!std::is_same_v<T, index>) depthwise::run<T>(call);
      return;
    case Algorithm::pointwise:
      return pointwise::run<T>(call);
    case Algorithm::planes:
      return planes::run<T>(call);
    case Algorithm::output_lane:
      return output_lane::run<T>(call);
  }
}

Scratch scratch_of(const Plan& plan, index n) {
  const Geometry& g = plan.g;
  checked_mul(n, checked_mul(g.c * g.h + g.oc * g.oh + 1, std::max(g.w, g.ow)));
  // Drivers form addresses from this and read none: their Workspace comes before any work.
  alignas(64) char nothing[64] = {};
  const index parts = plan.parts, in = g.h * g.w, out = g.oh * g.ow;
  const ImageView x{nothing, plan.scalar, plan.parts, g.h, g.w, g.c * in, in * parts, g.w * parts, parts};
  const OutputView y{nothing, plan.scalar, plan.parts, g.oh, g.ow, g.oc * out, out * parts, g.ow * parts, parts};
  Scratch found{};
  with_compute_type(plan.scalar, [&](auto t) {
    using T = decltype(t);
    const T* none = reinterpret_cast<const T*>(nothing);
    try {
      const Workspace::DryRun dry;
      run<T>({plan, none, none, x, y, n});
    } catch (const Workspace::Request& request) {
      found = {request.shared, request.per_slot, request.slots, request.total};
    }
  });
  return found;
}

template void pack<float>(const Plan&, const WeightView&, float*);
template void pack<double>(const Plan&, const WeightView&, double*);
template void pack<index>(const Plan&, const WeightView&, index*);
template void run<float>(const Call<float>&);
template void run<double>(const Call<double>&);
template void run<index>(const Call<index>&);

}  // namespace konv
