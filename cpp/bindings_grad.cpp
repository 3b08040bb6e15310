// The gradients of weight and bias, for Python: arrays are checked, the GIL is released.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>

#include "arrays.hpp"
#include "conv/grad_weight.hpp"
#include "cpu.hpp"

namespace konv {
namespace {

using namespace nb::literals;

// The weight's gradient (out_channels, in_channels/groups, kh, kw), contiguous; None when an array must be copied.
std::optional<Memory> grad_weight_of(const GradWeightPlan& plan, nb::handle input, nb::handle grad) {
  const Array x(input), gy(grad);
  if (x.foreign() || gy.foreign()) return std::nullopt;
  const Geometry& g = plan.g;
  x.expect(plan.scalar, plan.parts, {Array::any, g.c / plan.parts, g.h, g.w}, "the input");
  const index n = x.size(0);
  gy.expect(plan.scalar, plan.parts, {n, g.oc / plan.parts, g.oh, g.ow}, "the gradient");
  checked_mul(checked_mul(n, 8), checked_add(checked_mul(g.c * g.h, g.w), checked_mul(g.oc * g.oh, g.ow)));
  Memory memory(g.oc / plan.parts * g.group_c() * g.taps() * scalar_bytes(plan.scalar));
  with_floating_type(plan.scalar, [&](auto t) {
    const ReleaseGil released;
    grad_weight::run<decltype(t)>({g, *plan.isa, x.image(), gy.image(), n, memory.data(), plan.algorithm, plan.tile});
  });
  return memory;
}

// The sum of gy over images and pixels (out_channels,); None when it must be copied first.
std::optional<Memory> grad_bias_of(nb::handle grad) {
  const Array gy(grad);
  if (gy.foreign()) return std::nullopt;
  gy.expect(gy.scalar(), gy.parts(), 4, "the gradient");
  const index channels = gy.size(1) * gy.parts();
  Memory memory(channels * scalar_bytes(gy.scalar()));
  with_floating_type(gy.scalar(), [&](auto t) {
    const ReleaseGil released;
    grad_bias<decltype(t)>(current_isa(), gy.image(), gy.size(0), channels, memory.data());
  });
  return memory;
}

}  // namespace

void bind_gradients(nb::module_& m) {
  nb::class_<GradWeightPlan>(m, "GradWeightPlan", "How the gradient of the weight of a problem is summed.")
      .def_ro("name", &GradWeightPlan::name)
      .def_ro("reason", &GradWeightPlan::reason);
  m.def("grad_weight", &grad_weight_of, "plan"_a, "x"_a, "grad"_a);
  m.def("grad_bias", &grad_bias_of, "grad"_a);
}

}  // namespace konv
