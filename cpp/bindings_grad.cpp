// The gradients of weight and bias, for Python: arrays are checked, the GIL is released.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "arrays.hpp"
#include "conv/grad_weight.hpp"
#include "cpu.hpp"

namespace konv {
namespace {

using namespace nb::literals;

void expect_shape(const Array& a, int parts, index channels, index h, index w, const char* who) {
  if (a.size(1) * parts != channels || a.size(2) != h || a.size(3) != w)
    throw std::invalid_argument(std::string("konv: ") + who + " does not have the plan's shape");
}

// The weight's gradient (out_channels, in_channels/groups, kh, kw), contiguous; None when an array must be copied.
std::optional<Memory> grad_weight_of(const std::vector<index>& sizes, const std::string& mode, const std::string& dtype,
                                     const std::string& precision, nb::handle input, nb::handle grad,
                                     const std::string& forced) {
  const Array x(input), gy(grad);
  if (x.foreign() || gy.foreign()) return std::nullopt;
  const Problem p = parse_problem(sizes, mode, dtype, precision);
  const GradWeightPlan plan = plan_grad_weight(p.g, p.scalar, p.parts, p.precision, forced);
  x.expect(p.scalar, p.parts, 4, "the input");
  gy.expect(p.scalar, p.parts, 4, "the gradient");
  expect_shape(x, p.parts, p.g.c, p.g.h, p.g.w, "the input");
  expect_shape(gy, p.parts, p.g.oc, p.g.oh, p.g.ow, "the gradient");
  if (x.size(0) != gy.size(0)) throw std::invalid_argument("konv: input and gradient are of different batches");
  const index n = x.size(0);
  checked_mul(checked_mul(n, 8), checked_add(checked_mul(p.g.c * p.g.h, p.g.w), checked_mul(p.g.oc * p.g.oh, p.g.ow)));
  Memory memory(p.g.oc / p.parts * p.g.group_c() * p.g.taps() * scalar_bytes(p.scalar));
  with_floating_type(p.scalar, [&](auto t) {
    const ReleaseGil released;
    grad_weight::run<decltype(t)>(
        {p.g, current_isa(), x.image(), gy.image(), n, memory.data(), plan.algorithm, plan.tile});
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
  m.def("grad_weight", &grad_weight_of, "sizes"_a, "mode"_a, "dtype"_a, "precision"_a, "x"_a, "grad"_a,
        "forced"_a = "");
  m.def(
      "grad_weight_plan",
      [](const std::vector<index>& sizes, const std::string& mode, const std::string& dtype,
         const std::string& precision, const std::string& forced) {
        const Problem p = parse_problem(sizes, mode, dtype, precision);
        const GradWeightPlan plan = plan_grad_weight(p.g, p.scalar, p.parts, p.precision, forced);
        return nb::make_tuple(plan.name, plan.reason);
      },
      "sizes"_a, "mode"_a, "dtype"_a, "precision"_a, "forced"_a = "");
  m.def("grad_bias", &grad_bias_of, "grad"_a);
}

}  // namespace konv
