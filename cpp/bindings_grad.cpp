// The gradients of convolution and its transpose, for Python: arrays are checked, the GIL is released.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "arrays.hpp"
#include "conv/grad_input.hpp"
#include "conv/grad_weight.hpp"
#include "cpu.hpp"

namespace konv {
namespace {

using namespace nb::literals;

void expect_shape(const Array& a, int parts, index channels, index h, index w, const char* who) {
  if (a.size(1) * parts != channels || a.size(2) != h || a.size(3) != w)
    throw std::invalid_argument(std::string("konv: ") + who + " does not have the plan's shape");
}

GradInputPlan grad_input_of(const std::vector<index>& sizes, const std::string& mode, const std::string& dtype,
                            const std::string& precision, bool conjugate, const std::string& forced) {
  const Problem p = parse_problem(sizes, mode, dtype, precision);
  return make_grad_input(p.g, p.scalar, p.parts, current_isa(), p.precision, conjugate, forced);
}

// The weight (out_channels, in_channels/groups, kh, kw) of the layer; None when it must be copied first.
std::optional<Packed> pack_grad_input(const GradInputPlan& plan, nb::handle weight) {
  const Array array(weight);
  if (array.foreign()) return std::nullopt;
  array.expect(plan.scalar, plan.parts, 4, "the weight");
  const Geometry& g = plan.g;
  if (array.size(0) * plan.parts != g.oc)
    throw std::invalid_argument("konv: the weight does not have the plan's shape");
  expect_shape(array, plan.parts, g.group_c(), g.kh, g.kw, "the weight");
  const WeightView view{
      array.data(),    plan.scalar,     plan.parts,     1, g.group_oc() / plan.parts * array.stride(0), array.stride(0),
      array.stride(1), array.stride(2), array.stride(3)};
  Packed packed{plan.layout, Memory(plan.packed_bytes)};
  const ReleaseGil released;
  with_compute_type(plan.scalar, [&](auto t) { grad_input::pack<decltype(t)>(plan, view, packed.memory.data()); });
  return packed;
}

// The image (n, in_channels, h, w), contiguous, from gy (n, out_channels, oh, ow); None when an array must be copied.
std::optional<Memory> run_grad_input(const GradInputPlan& plan, nb::handle grad, const Packed& packed,
                                     nb::handle bias) {
  const Array gy(grad);
  std::optional<Array> b;
  if (!bias.is_none()) b.emplace(bias);
  if (gy.foreign() || (b && b->foreign())) return std::nullopt;
  const Geometry& g = plan.g;
  gy.expect(plan.scalar, plan.parts, 4, "the gradient");
  expect_shape(gy, plan.parts, g.oc, g.oh, g.ow, "the gradient");
  if (b) {
    b->expect(plan.scalar, plan.parts, 1, "the bias");
    if (b->size(0) * plan.parts != g.c) throw std::invalid_argument("konv: the bias does not have the plan's shape");
  }
  if (packed.layout != plan.layout) throw std::invalid_argument("konv: the weight was packed for another plan");
  const index n = gy.size(0);
  Memory memory(checked_mul(n, checked_mul(checked_mul(g.c, g.h), checked_mul(g.w, scalar_bytes(plan.scalar)))));
  checked_mul(n, checked_mul(g.oc, checked_mul(g.oh, g.ow)));
  with_compute_type(plan.scalar, [&](auto t) {
    using T = decltype(t);
    const std::vector<T> values = in_compute_type<T>(*plan.isa, b ? &*b : nullptr, g.c);
    const OutputView y = dense_output(memory.data(), plan.scalar, plan.parts, g.c, g.h, g.w);
    const ReleaseGil released;
    grad_input::run<T>(plan, packed.memory.data(), values.data(), gy.image(), y, n);
  });
  return memory;
}

// Names of the plans that fill the phases of the image, then those of its borders.
std::vector<std::string> plan_names(const GradInputPlan& plan) {
  std::vector<std::string> names;
  const auto add = [&](const GradInputRegion& region) {
    for (const GradInputPhase& phase : region.phases) names.push_back(phase.plan.name);
  };
  add(plan.image);
  for (const GradInputRegion& region : plan.borders) add(region);
  return names;
}

template <class F>
void with_floating_type(Scalar scalar, F&& f) {
  with_compute_type(scalar, [&](auto t) {
    if constexpr (std::is_same_v<decltype(t), index>) throw std::invalid_argument("konv: integers have no gradient");
    else f(t);
  });
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
  nb::class_<GradInputPlan>(m, "GradInputPlan",
                            "The convolutions of gy that give the gradient of one geometry's image.")
      .def(nb::new_(&grad_input_of), "sizes"_a, "mode"_a, "dtype"_a, "precision"_a, "conjugate"_a, "forced"_a = "")
      .def_ro("layout", &GradInputPlan::layout)
      .def_ro("packed_bytes", &GradInputPlan::packed_bytes)
      .def_prop_ro("isa", [](const GradInputPlan& p) { return p.isa->name; })
      .def_prop_ro("names", &plan_names);
  m.def("pack_grad_input", &pack_grad_input, "plan"_a, "weight"_a);
  m.def("run_grad_input", &run_grad_input, "plan"_a, "grad"_a, "packed"_a, "bias"_a.none());
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
