// The ONLY place that says which algorithm runs for which geometry.
//
// A choice, and everything that changes the order of additions, depends on the layer's geometry, dtype, instruction set
// and precision (vectors' length on the CPU, too); never on the batch size, the thread count or what else runs.
#pragma once
#include <string>
#include <vector>
#include "isa/table.hpp"
#include "workspace.hpp"

namespace konv {

enum class Precision : std::uint8_t { highest, high, medium };

// What sums are kept in, of f32, f64 and i64: for integers the first that holds all of them to the last digit.
Scalar summed_in(const Geometry& g, Scalar scalar);

// A layer at one image size, and what else a choice may depend on.
struct Problem {
  Geometry g;
  Scalar scalar;  // storage of x and y
  int parts;
  const IsaTable* isa;
  Precision precision;
  Scalar sums = summed_in(g, scalar);
  bool narrow = false;  // by the CPU's shorter vectors
};

struct Algorithm;
struct Plan : Problem {
  const Algorithm* algorithm;
  int tile;                  // Winograd: rows of a tile; direct: of the register tile
  std::string name;          // "winograd F(4x4,3x3)", "direct pixel_lane", ...
  std::string reason;        // one sentence for explain
  std::string layout;        // packed weights serve every plan of the same layout
  index packed_bytes;        // of the weight
  int across = 0, taps = 0;  // Winograd: columns of a tile; r
};

// One forward call in the compute type. `weight` is packed by the plan's algorithm; `bias`: g.oc values or zeros.
template <class T> struct Call {
  const Plan& plan;
  const T* weight;
  const T* bias;
  ImageView x;
  OutputView y;
  index n;

  index scratch_limit() const { return konv::scratch_limit(plan.g, x.scalar, n); }
};

// What an algorithm's driver (cpp/conv) does in the compute type T of the plan's sums: functions in its namespace.
template <class T> struct Driver {
  index (*packed_size)(const Plan& plan);  // in T
  void (*pack)(const Plan& plan, const WeightView& w, T* dst);
  void (*run)(const Call<T>& call);
};
#define KONV_DRIVER(T) {packed_size<T>, pack<T>, run<T>}
struct Algorithm {
  const char* name;                 // good as `forced` below
  const char* title;                // Plan::name; of Winograd the transform says it
  bool (*fits)(const Geometry& g);  // can run it at all
  Family<Driver> driver;            // null for integers where there is none
};
namespace winograd { extern const Algorithm algorithm; }
namespace pixel_lane { extern const Algorithm algorithm; }
namespace output_lane { extern const Algorithm algorithm; }
namespace depthwise { extern const Algorithm algorithm; }
namespace channel_lane { extern const Algorithm algorithm; }

// Throws unless every size, and every product of sizes that drivers form from one image, fits.
void check_sizes(const Geometry& g, Scalar scalar);
// For sizes that were checked. Throws std::invalid_argument for a forced name that cannot run this geometry.
Plan make_plan(const Problem& p, const std::string& forced = "");
// Names, each good as `forced` above, of the few plans that are worth timing for this geometry; what make_plan chooses
// by itself comes first. All of them keep to the problem's precision.
std::vector<std::string> plan_candidates(const Problem& p);

// How the gradient of the weight is summed: see conv/grad_weight.cpp.
enum class GradWeight : std::uint8_t { winograd, matrix, depthwise };
struct GradWeightPlan : Problem {
  GradWeight algorithm;
  std::string name, reason;
  int tile = 0;  // Winograd: m of F(m, r)
};
GradWeightPlan plan_grad_weight(const Problem& p, const std::string& forced = "");

template <class T> void run(const Call<T>& call) {
  const Plan& plan = call.plan;
  if (call.n == 0 || plan.g.oc == 0 || plan.g.oh == 0 || plan.g.ow == 0) return;  // drivers divide by these
  plan.algorithm->driver.of<T>().run(call);
}

// What one call takes besides input, output and packed weight, by the driver's own sums; it depends on the threads.
Scratch scratch_of(const Plan& plan, index n);
// f(T()) with the type that kernels compute in.
template <class F> auto with_compute_type(Scalar s, F&& f) {
  if (s == Scalar::f64) return f(double());
  return is_floating(s) ? f(float()) : f(index());
}

// The same, of scalars that are not integers.
template <class F> void with_floating_type(Scalar scalar, F&& f) {
  if (!is_floating(scalar)) throw std::invalid_argument("konv: integers are not taken here");
  scalar == Scalar::f64 ? f(double()) : f(float());
}
}  // namespace konv
