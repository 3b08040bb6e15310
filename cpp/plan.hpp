// The ONLY place that says which algorithm runs for which geometry.
//
// A choice, and everything that changes the order of additions, depends on the layer's geometry, dtype, instruction set
// and precision setting; never on the batch size, the thread count or what else runs.
#pragma once
#include <string>
#include <vector>
#include "isa/table.hpp"

namespace konv {

enum class Algorithm : std::uint8_t { winograd, pointwise, planes, output_lane, depthwise };
enum class Precision : std::uint8_t { highest, high, medium };

struct Plan {
  Geometry g;
  Scalar scalar;  // storage of x and y
  int parts;
  const IsaTable* isa;
  Precision precision;
  Algorithm algorithm;
  int tile;            // Winograd: m of F(m, r); direct: rows of the register tile
  std::string name;    // "winograd F(4x4,3x3)", "direct planes", ...
  std::string reason;  // one sentence for explain
  std::string layout;  // packed weights serve every plan of the same layout
  index packed;        // scalars of T in the packed weight
};

// Throws std::invalid_argument for a forced name that cannot run this geometry.
Plan make_plan(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa, Precision precision,
               const std::string& forced = "");

// Names, each good as `forced` above, of the few plans that are worth timing for this geometry; what make_plan chooses
// by itself comes first. All of them keep to `precision`.
std::vector<std::string> plan_candidates(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa,
                                         Precision precision);

// How the gradient of the weight is summed: see conv/grad_weight.cpp, conv/grad_depthwise.hpp.
enum class GradWeight : std::uint8_t { winograd, matrix, depthwise };
struct GradWeightPlan {
  GradWeight algorithm;
  std::string name, reason;
  int tile = 0;  // Winograd: m of F(m, r)
};
GradWeightPlan plan_grad_weight(const Geometry& g, Scalar scalar, int parts, Precision precision,
                                const std::string& forced = "");

// One forward call in the compute type. `weight` is packed by the plan's algorithm; `bias` has g.oc values (zeros when
// the layer has none).
template <class T>
struct Call {
  const Plan& plan;
  const T* weight;
  const T* bias;
  ImageView x;
  OutputView y;
  index n;
};

// The driver that the plan chose. T is the compute type of plan.scalar.
template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst);
template <class T>
void run(const Call<T>& call);

// What one call with n images takes besides input, output and packed weight: found by the driver's own sums, without
// running it. It depends on the thread count.
struct Scratch {
  index shared, per_slot, slots, total;
};
Scratch scratch_of(const Plan& plan, index n);

// f(T()) with the type that kernels compute in.
template <class F>
void with_compute_type(Scalar s, F&& f) {
  switch (s) {
    case Scalar::f32:
    case Scalar::f16:
    case Scalar::bf16:
      return f(float());
    case Scalar::f64:
      return f(double());
    default:
      return f(index());
  }
}

// The same, of scalars that are not integers.
template <class F>
void with_floating_type(Scalar scalar, F&& f) {
  with_compute_type(scalar, [&](auto t) {
    if constexpr (std::is_same_v<decltype(t), index>) throw std::invalid_argument("konv: integers are not taken here");
    else f(t);
  });
}

// Every driver in cpp/conv offers these four in its own namespace:
//   bool fits(const Geometry&)                      can run it at all
//   template <class T> index packed_size(const Plan&)
//   template <class T> void pack(const Plan&, const WeightView&, T* dst)
//   template <class T> void run(const Call<T>&)
// and ends with this for each type that it computes in.
#define KONV_DRIVER(T)                                       \
  template index packed_size<T>(const Plan&);                \
  template void pack<T>(const Plan&, const WeightView&, T*); \
  template void run<T>(const Call<T>&)

}  // namespace konv
