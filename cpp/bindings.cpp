// The Python module konv._core: arrays are checked against the plan, the GIL is released, nothing is computed here.
//
// Whatever a caller passes, no kernel reads or writes outside an array: shapes and dtypes must be the plan's, results
// are allocated here, and packed weights carry the layout they were made for.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.hpp"
#include "cpu.hpp"
#include "parallel.hpp"
#include "peak.hpp"

namespace konv {
namespace {

using namespace nb::literals;

constexpr const char* algorithm_names[] = {"winograd", "pointwise", "planes", "output_lane", "depthwise"};

Plan plan_of(const std::vector<index>& sizes, const std::string& mode, const std::string& dtype,
             const std::string& precision, const std::string& forced) {
  const Problem p = parse_problem(sizes, mode, dtype, precision);
  return make_plan(p.g, p.scalar, p.parts, current_isa(), p.precision, forced);
}

index packed_bytes(const Plan& plan) {
  index bytes = 0;
  with_compute_type(plan.scalar, [&](auto t) { bytes = checked_mul(plan.packed, sizeof t); });
  return bytes;
}

std::vector<std::string> candidates_of(const std::vector<index>& sizes, const std::string& mode,
                                       const std::string& dtype, const std::string& precision) {
  const Problem p = parse_problem(sizes, mode, dtype, precision);
  return plan_candidates(p.g, p.scalar, p.parts, current_isa(), p.precision);
}

// The weight (out_channels, in_channels/groups, kh, kw) of a plan in the plan's layout; None when it must be copied.
std::optional<Packed> pack_weight(const Plan& plan, nb::handle weight) {
  const Array array(weight);
  if (array.foreign()) return std::nullopt;
  const WeightView view = weight_of(array, plan.scalar, plan.parts, plan.g);
  Packed packed{plan.layout, Memory(packed_bytes(plan))};
  const ReleaseGil released;
  with_compute_type(plan.scalar,
                    [&](auto t) { pack<decltype(t)>(plan, view, static_cast<decltype(t)*>(packed.memory.data())); });
  return packed;
}

// y = conv(x) + bias, contiguous (n, out_channels, oh, ow); None when x or bias must be copied first.
std::optional<Memory> conv2d_forward(const Plan& plan, nb::handle input, const Packed& packed, nb::handle bias) {
  const Array x(input);
  std::optional<Array> b;
  if (!bias.is_none()) b.emplace(bias);
  if (x.foreign() || (b && b->foreign())) return std::nullopt;
  const Geometry& g = plan.g;
  x.expect(plan.scalar, plan.parts, {Array::any, g.c / plan.parts, g.h, g.w}, "the input");
  if (b) b->expect(plan.scalar, plan.parts, {g.oc / plan.parts}, "the bias");
  if (packed.layout != plan.layout) throw std::invalid_argument("konv: the weight was packed for another plan");

  const index n = x.size(0), image = g.oc * g.oh * g.ow * scalar_bytes(plan.scalar);
  Memory memory(checked_mul(n, image));
  checked_mul(n, checked_mul(g.c * g.h, g.w));  // a broadcast batch: more cells than there is memory
  with_compute_type(plan.scalar, [&](auto t) {
    using T = decltype(t);
    const std::vector<T> values = in_compute_type<T>(*plan.isa, b ? &*b : nullptr, g.oc);
    const OutputView y = dense_output(memory.data(), plan.scalar, plan.parts, g.oc, g.oh, g.ow);
    const ReleaseGil released;
    run<T>({plan, static_cast<const T*>(packed.memory.data()), values.data(), x.image(), y, n});
  });
  return memory;
}

int export_memory(PyObject* self, Py_buffer* view, int flags) {
  const Memory* memory = nb::inst_ptr<Memory>(self);
  return PyBuffer_FillInfo(view, self, memory->data(), memory->bytes(), 0, flags);
}

PyType_Slot memory_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(export_memory)}, {0, nullptr}};

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const IsaTable* isa : available_isas()) names.emplace_back(isa->name);
  return names;
}

}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // what a program still holds at its end is its own affair
  m.doc() = "konv's compiled core. Import konv instead: only konv.kernels uses this module.";

  nb::class_<Memory>(m, "Memory", nb::type_slots(memory_slots), "64-byte aligned memory of a result.");
  nb::class_<Packed>(m, "Packed", "A weight in the order in which one plan's kernels read it.")
      .def_prop_ro("layout", [](const Packed& p) { return p.layout; })
      .def_prop_ro("nbytes", [](const Packed& p) { return p.memory.bytes(); });
  nb::class_<Plan>(m, "Plan", "What runs for one geometry, image size, dtype, instruction set and precision.")
      .def(nb::new_(&plan_of), "sizes"_a, "mode"_a, "dtype"_a, "precision"_a, "forced"_a = "")
      .def_ro("name", &Plan::name)
      .def_ro("reason", &Plan::reason)
      .def_ro("layout", &Plan::layout)
      .def_ro("tile", &Plan::tile)
      .def_prop_ro("algorithm", [](const Plan& p) { return algorithm_names[static_cast<int>(p.algorithm)]; })
      .def_prop_ro("isa", [](const Plan& p) { return p.isa->name; })
      .def_prop_ro("packed_bytes", &packed_bytes)
      .def(
          "scratch",
          [](const Plan& p, index n) {
            const Scratch s = scratch_of(p, n);
            return nb::make_tuple(s.shared, s.per_slot, s.slots, s.total);
          },
          "n"_a, "Bytes for all, bytes a thread, threads, and bytes in all of a call with n images.")
      .def_prop_ro("output_size", [](const Plan& p) { return nb::make_tuple(p.g.oh, p.g.ow); });

  m.def("plan_candidates", &candidates_of, "sizes"_a, "mode"_a, "dtype"_a, "precision"_a);
  m.def("allocate", [](index bytes) { return Memory(bytes); }, "nbytes"_a);
  m.def("pack_weight", &pack_weight, "plan"_a, "weight"_a);
  m.def("conv2d_forward", &conv2d_forward, "plan"_a, "x"_a, "packed"_a, "bias"_a.none());

  m.def("available_isas", &isa_names);
  m.def("current_isa", [] { return current_isa().name; });
  m.def("use_isa", &use_isa, "name"_a);
  m.def("vector_bytes", [] { return current_isa().tiles<float>().lanes * static_cast<int>(sizeof(float)); });
  m.def(
      "fma_rate",
      [](bool doubles, index repeats) { return doubles ? fma_rate<double>(repeats) : fma_rate<float>(repeats); },
      "doubles"_a, "repeats"_a, nb::call_guard<ReleaseGil>(), "Operations a second that the multipliers did.");
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "n"_a);
  m.def("set_cpus", &set_cpus, "n"_a);

  bind_layers(m);
  bind_gradients(m);
}

}  // namespace konv
