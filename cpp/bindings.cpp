// The Python module konv._core: arrays are checked against the plan, the GIL is released, nothing is computed here.
//
// Whatever a caller passes, no kernel reads or writes outside an array: shapes and dtypes must be the plan's, results
// are allocated or checked here, and packed weights carry the layout they were made for.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include "arrays.hpp"
#include "conv/grad_weight.hpp"
#include "cpu.hpp"
#include "parallel.hpp"

namespace konv {
namespace {

using namespace nb::literals;

struct Packed {
  std::string layout;
  Memory memory;
};

// The weight of a plan in the plan's layout; None when it must be copied. It comes as (groups, out_channels/groups,
// in_channels/groups, kh, kw), so that weights whose channels are exchanged group by group are views too.
std::optional<Packed> pack_weight(const Plan& plan, nb::handle weight) {
  const Array array(weight);
  if (array.foreign()) return std::nullopt;
  const Geometry& g = plan.g;
  array.expect(plan.scalar, plan.parts, {g.groups, g.group_oc() / plan.parts, g.group_c() / plan.parts, g.kh, g.kw},
               "the weight");
  const WeightView view{array.data(),    plan.scalar,     plan.parts,      array.stride(0),
                        array.stride(1), array.stride(2), array.stride(3), array.stride(4)};
  Packed packed{plan.layout, Memory(plan.packed_bytes)};
  const ReleaseGil released;
  with_compute_type(plan.sums, [&]<class T>(T) {
    plan.algorithm->driver.of<T>().pack(plan, view, static_cast<T*>(packed.memory.data()));
  });
  return packed;
}

// y = conv(x) + bias with x (n, in_channels, h, w) and a bias (out_channels,) or None; output(n) says where y is, when
// everything else was checked. False when an array must be copied first.
bool convolve(const Plan& plan, nb::handle input, const Packed& packed, nb::handle vector, auto&& output) {
  const Geometry& g = plan.g;
  const Array x(input);
  std::optional<Array> bias;
  if (!vector.is_none()) bias.emplace(vector);
  if (x.foreign() || (bias && bias->foreign())) return false;
  x.expect(plan.scalar, plan.parts, {Array::any, g.c / plan.parts, g.h, g.w}, "the input");
  const index n = x.size(0);
  checked_mul(n, checked_mul(g.c * g.h, g.w));  // a broadcast batch: more cells than there is memory
  if (bias) bias->expect(plan.scalar, plan.parts, {g.oc / plan.parts}, "the bias");
  if (bias && plan.parts > 1 && bias->stride(0) != plan.parts) return false;
  if (packed.layout != plan.layout) throw std::invalid_argument("konv: the weight was packed for another plan");
  const OutputView y = output(n);
  with_compute_type(plan.sums, [&]<class T>(T) {
    std::vector<T> values(static_cast<std::size_t>(g.oc), T(0));
    const index step = plan.parts > 1 || !bias ? 1 : bias->stride(0);
    if (bias) plan.isa->rows.of<T>().load(plan.scalar, values.data(), bias->data(), step, g.oc);
    const ReleaseGil released;
    run<T>({plan, static_cast<const T*>(packed.memory.data()), values.data(), x.image(), y, n});
  });
  return true;
}

// Contiguous (n, out_channels, oh, ow); None when x or bias must be copied first.
std::optional<Memory> conv2d_forward(const Plan& plan, nb::handle x, const Packed& packed, nb::handle bias) {
  const Geometry& g = plan.g;
  std::optional<Memory> memory;
  convolve(plan, x, packed, bias, [&](index n) {
    memory.emplace(checked_mul(n, g.oc * g.oh * g.ow * scalar_bytes(plan.scalar)));
    return dense_view(memory->data(), plan.scalar, plan.parts, g.oc, g.oh, g.ow);
  });
  return memory;
}

// The same into `result` (n, out_channels, oh, ow), of any strides; false when an array must be copied first. That its
// elements share no memory, with x or each other, is the caller's word.
bool conv2d_into(const Plan& plan, nb::handle x, const Packed& packed, nb::handle bias, nb::handle result) {
  const Array y(result, true);
  return !y.foreign() && convolve(plan, x, packed, bias, [&](index n) {
    y.expect(plan.scalar, plan.parts, {n, plan.g.oc / plan.parts, plan.g.oh, plan.g.ow}, "the output");
    return y.view<OutputView>();
  });
}

auto scratch_sizes(const Plan& plan, index n) {
  const Scratch s = scratch_of(plan, n);
  return nb::make_tuple(s.shared, s.per_slot, s.slots, s.total);
}

int export_memory(PyObject* self, Py_buffer* view, int flags) {
  const Memory* memory = nb::inst_ptr<Memory>(self);
  return PyBuffer_FillInfo(view, self, memory->data(), memory->bytes(), 0, flags);
}

PyType_Slot memory_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(export_memory)}, {0, nullptr}};

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
  const ReleaseGil released;
  grad_weight::run({g, *plan.isa, x.image(), gy.image(), n, memory.data(), plan.algorithm, plan.tile});
  return memory;
}
}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // what a program still holds at its end is its own affair
  m.doc() = "konv's compiled core. Import konv instead: only konv.kernels uses this module.";

  nb::class_<Memory>(m, "Memory", nb::type_slots(memory_slots), "64-byte aligned memory of a result.");
  m.def("allocate", [](index bytes) { return Memory(bytes); }, "nbytes"_a);
  nb::class_<Packed>(m, "Packed", "A weight in the order in which one plan's kernels read it.");

  nb::class_<Problem>(m, "Problem", "A layer, an image size, a dtype, an instruction set and a precision.")
      .def(nb::new_(&make_problem), "sizes"_a, "mode"_a, "dtype"_a, "precision"_a)
      .def("plan", &make_plan, "forced"_a = "")
      .def("plan_grad_weight", &plan_grad_weight, "forced"_a = "")
      .def("candidates", &plan_candidates);
  nb::class_<Plan>(m, "Plan", "What runs for a problem.")
      .def_ro("name", &Plan::name)
      .def_ro("reason", &Plan::reason)
      .def_ro("layout", &Plan::layout)
      .def_ro("tile", &Plan::tile)
      .def_ro("packed_bytes", &Plan::packed_bytes)
      .def_prop_ro("algorithm", [](const Plan& p) { return p.algorithm->name; })
      .def_prop_ro("isa", [](const Plan& p) { return p.isa->name; })
      .def("scratch", &scratch_sizes, "n"_a,
           "Bytes for all, bytes a thread, threads, and bytes in all of a call with n images.");
  nb::class_<GradWeightPlan>(m, "GradWeightPlan", "How the gradient of the weight of a problem is summed.")
      .def_ro("name", &GradWeightPlan::name)
      .def_ro("reason", &GradWeightPlan::reason);
  m.def("pack_weight", &pack_weight, "plan"_a, "weight"_a);
  m.def("conv2d_forward", &conv2d_forward, "plan"_a, "x"_a, "packed"_a, "bias"_a.none());
  m.def("conv2d_into", &conv2d_into, "plan"_a, "x"_a, "packed"_a, "bias"_a.none(), "out"_a);
  m.def("grad_weight", &grad_weight_of, "plan"_a, "x"_a, "grad"_a);

  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const IsaTable* isa : available_isas()) names.emplace_back(isa->name);
    return names;
  });
  m.def("current_isa", [] { return current_isa().name; });
  m.def("use_isa", &use_isa, "name"_a);
  m.def("vector_bytes", [] { return current_isa().tiles.of<float>().lanes * static_cast<int>(sizeof(float)); });
  m.def("multiply_add", &multiply_add, "dtype"_a, "repeats"_a, nb::call_guard<ReleaseGil>(),
        "Keeps this thread's multipliers busy; returns how many operations they did.");
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "n"_a);
  m.def("set_cpus", &set_cpus, "n"_a);

  bind_layers(m);
}
}  // namespace konv
