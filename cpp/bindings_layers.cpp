// The layers around a convolution, for Python: arrays are checked against each other, results are allocated, the GIL is
// released. A function returns None when an array must be copied first (foreign byte order or alignment).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "arrays.hpp"
#include "cpu.hpp"
#include "layers/norm.hpp"
#include "layers/pointwise.hpp"
#include "layers/pool.hpp"

namespace konv {
namespace {

using namespace nb::literals;

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("konv: ") + what); }

template <class F>
void with_floating_type(Scalar scalar, F&& f) {
  with_compute_type(scalar, [&](auto t) {
    if constexpr (std::is_same_v<decltype(t), index>) refuse("this layer has no integers");
    else f(t);
  });
}

index bytes_of(index n, index c, index h, index w, Scalar scalar) {
  return checked_mul(checked_mul(n, c), checked_mul(checked_mul(h, w), scalar_bytes(scalar)));
}

// ---- pooling --------------------------------------------------------------------------------------------------------

// A PoolAxis that owns its windows.
struct Windows {
  PoolAxis axis{};
  std::vector<index> begin, end;
  PoolAxis view() const {
    PoolAxis a = axis;
    if (!begin.empty()) a.begin = begin.data(), a.end = end.data();
    return a;
  }
};

Windows regular_windows(index size, index outputs, index kernel, index stride, index pad, index dilation) {
  if (size < 1 || outputs < 1 || kernel < 1 || stride < 1 || pad < 0 || dilation < 1)
    refuse("sizes of pooling windows must be positive");
  checked_add(checked_mul(outputs, stride), checked_add(checked_add(size, pad), checked_mul(kernel, dilation)));
  return {{size, outputs, kernel, stride, pad, dilation}, {}, {}};
}

Windows adaptive_windows(index size, const std::vector<index>& begin, const std::vector<index>& end) {
  if (begin.empty() || begin.size() != end.size()) refuse("adaptive windows need as many ends as beginnings");
  for (std::size_t i = 0; i < begin.size(); i++)
    if (begin[i] < (i ? begin[i - 1] : 0) || end[i] <= begin[i] || (i && end[i] < end[i - 1]) || end[i] > size)
      refuse("adaptive windows must ascend inside the image");
  return {{size, static_cast<index>(begin.size())}, begin, end};
}

void expect(const Array& a, Scalar scalar, index h, index w, const char* who) {
  a.expect(scalar, 1, 4, who);
  if (a.size(2) != h || a.size(3) != w) refuse("an image does not have the size of its windows");
}

Pooling pooling_of(const Windows& rows, const Windows& columns, const Array& a) {
  return {a.size(0), a.size(1), rows.view(), columns.view()};
}

// (values, cells): both of the output's shape; cells are int64, or None where they were not asked for.
nb::object max_pool2d(const Windows& rows, const Windows& columns, nb::handle input, bool with_cells) {
  const Array x(input);
  if (x.foreign()) return nb::none();
  expect(x, x.scalar(), rows.axis.size, columns.axis.size, "the input");
  const index oh = rows.axis.outputs, ow = columns.axis.outputs;
  const Pooling p = pooling_of(rows, columns, x);
  Memory memory(bytes_of(p.n, p.c, oh, ow, x.scalar()));
  std::optional<Memory> cells;
  if (with_cells) cells.emplace(bytes_of(p.n, p.c, oh, ow, Scalar::i64));
  with_compute_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    max_pool<decltype(t)>(current_isa(), p, x.image(), dense_output(memory.data(), x.scalar(), 1, p.c, oh, ow),
                          cells ? static_cast<index*>(cells->data()) : nullptr);
  });
  return nb::make_tuple(std::move(memory), std::move(cells));
}

std::optional<Memory> max_pool2d_gradient(const Windows& rows, const Windows& columns, nb::handle grad,
                                          nb::handle places) {
  const Array gy(grad), cells(places);
  if (gy.foreign() || cells.foreign()) return std::nullopt;
  expect(gy, gy.scalar(), rows.axis.outputs, columns.axis.outputs, "the gradient");
  expect(cells, Scalar::i64, rows.axis.outputs, columns.axis.outputs, "the indices");
  const Pooling p = pooling_of(rows, columns, gy);
  if (cells.size(0) != p.n || cells.size(1) != p.c) refuse("gradient and indices differ in shape");
  const index h = rows.axis.size, w = columns.axis.size;
  Memory memory(bytes_of(p.n, p.c, h, w, gy.scalar()));
  bool inside = true;
  with_compute_type(gy.scalar(), [&](auto t) {
    const ReleaseGil released;
    inside = max_pool_gradient<decltype(t)>(current_isa(), p, gy.image(), cells.image(),
                                            dense_output(memory.data(), gy.scalar(), 1, p.c, h, w));
  });
  if (!inside) refuse("an index of max_pool2d lies outside the image");
  return memory;
}

std::optional<Memory> avg_pool2d(const Windows& rows, const Windows& columns, nb::handle array, bool count_pad,
                                 index divisor, bool gradient) {
  const Array a(array);
  if (a.foreign()) return std::nullopt;
  index h = rows.axis.size, w = columns.axis.size, to_h = rows.axis.outputs, to_w = columns.axis.outputs;
  if (gradient) std::swap(h, to_h), std::swap(w, to_w);
  expect(a, a.scalar(), h, w, gradient ? "the gradient" : "the input");
  Pooling p = pooling_of(rows, columns, a);
  p.count_pad = count_pad;
  p.divisor = divisor;
  if (rows.axis.dilation != 1 || columns.axis.dilation != 1) refuse("averages have no dilation");
  Memory memory(bytes_of(p.n, p.c, to_h, to_w, a.scalar()));
  with_compute_type(a.scalar(), [&](auto t) {
    const OutputView y = dense_output(memory.data(), a.scalar(), 1, p.c, to_h, to_w);
    const ReleaseGil released;
    if (gradient) avg_pool_gradient<decltype(t)>(current_isa(), p, a.image(), y);
    else avg_pool<decltype(t)>(current_isa(), p, a.image(), y);
  });
  return memory;
}

// ---- normalisation --------------------------------------------------------------------------------------------------

void expect_like(const Array& a, const Array& x, const char* who) {
  a.expect(x.scalar(), 1, 4, who);
  for (int axis = 0; axis < 4; axis++)
    if (a.size(axis) != x.size(axis)) refuse("two images that belong together differ in shape");
}

void expect_cells(const Array& x) {
  x.expect(x.scalar(), 1, 4, "the input");
  for (int axis = 0; axis < 4; axis++)
    if (x.size(axis) < 1) refuse("an image to normalise has no cells");
}

// (n or 1, c) of float64, for images of x.
PerChannel per_channel(const Array& values, const Array& x) {
  values.expect(Scalar::f64, 1, 2, "a statistic");
  if ((values.size(0) != x.size(0) && values.size(0) != 1) || values.size(1) != x.size(1))
    refuse("a statistic does not have the shape (n or 1, channels)");
  return {static_cast<const double*>(values.data()), values.size(0) == 1 ? 0 : values.stride(0), values.stride(1)};
}

std::optional<Memory> moments(nb::handle input) {
  const Array x(input);
  if (x.foreign()) return std::nullopt;
  expect_cells(x);
  const index planes = checked_mul(x.size(0), x.size(1));
  Memory memory(checked_mul(planes, 16));
  double* mean = static_cast<double*>(memory.data());
  with_floating_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    channel_moments<decltype(t)>(current_isa(), x.size(0), x.size(1), x.image(), mean, mean + planes);
  });
  return memory;
}

std::optional<Memory> products(nb::handle grad, nb::handle input, nb::handle center) {
  const Array g(grad), x(input), m(center);
  if (g.foreign() || x.foreign() || m.foreign()) return std::nullopt;
  expect_cells(x);
  expect_like(g, x, "the gradient");
  const PerChannel its_center = per_channel(m, x);
  const index planes = checked_mul(x.size(0), x.size(1));
  Memory memory(checked_mul(planes, 16));
  double* sums = static_cast<double*>(memory.data());
  with_floating_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    channel_products<decltype(t)>(current_isa(), x.size(0), x.size(1), g.image(), x.image(), its_center, sums,
                                  sums + planes);
  });
  return memory;
}

std::optional<Memory> affine(nb::handle input, nb::handle center, nb::handle scale, nb::handle shift) {
  const Array x(input), m(center), a(scale), b(shift);
  if (x.foreign() || m.foreign() || a.foreign() || b.foreign()) return std::nullopt;
  expect_cells(x);
  const PerChannel its_center = per_channel(m, x), its_scale = per_channel(a, x), its_shift = per_channel(b, x);
  Memory memory(bytes_of(x.size(0), x.size(1), x.size(2), x.size(3), x.scalar()));
  with_floating_type(x.scalar(), [&](auto t) {
    const OutputView y = dense_output(memory.data(), x.scalar(), 1, x.size(1), x.size(2), x.size(3));
    const ReleaseGil released;
    channel_affine<decltype(t)>(current_isa(), x.size(0), x.size(1), x.image(), its_center, its_scale, its_shift, y);
  });
  return memory;
}

std::optional<Memory> combine(nb::handle grad, nb::handle input, nb::handle a, nb::handle b, nb::handle center,
                              nb::handle shift) {
  const Array g(grad), x(input), on_g(a), on_x(b), m(center), c(shift);
  if (g.foreign() || x.foreign() || on_g.foreign() || on_x.foreign() || m.foreign() || c.foreign()) return std::nullopt;
  expect_cells(x);
  expect_like(g, x, "the gradient");
  const PerChannel its_a = per_channel(on_g, x), its_b = per_channel(on_x, x);
  const PerChannel its_center = per_channel(m, x), its_shift = per_channel(c, x);
  Memory memory(bytes_of(x.size(0), x.size(1), x.size(2), x.size(3), x.scalar()));
  with_floating_type(x.scalar(), [&](auto t) {
    const OutputView y = dense_output(memory.data(), x.scalar(), 1, x.size(1), x.size(2), x.size(3));
    const ReleaseGil released;
    channel_combine<decltype(t)>(current_isa(), x.size(0), x.size(1), g.image(), x.image(), its_a, its_b, its_center,
                                 its_shift, y);
  });
  return memory;
}

// ---- elementwise ----------------------------------------------------------------------------------------------------

Strided strided(const Array& a) {
  Strided s{a.data(), a.scalar(), {}};
  for (int axis = 0; axis < a.ndim(); axis++) s.strides.push_back(a.stride(axis));
  return s;
}

std::vector<index> shape_of(const Array& a, index& cells) {
  std::vector<index> shape;
  cells = 1;
  for (int axis = 0; axis < a.ndim(); axis++) {
    shape.push_back(a.size(axis));
    cells = checked_mul(cells, a.size(axis));
  }
  return shape;
}

std::optional<Memory> relu_of(nb::handle input) {
  const Array x(input);
  if (x.foreign()) return std::nullopt;
  x.expect(x.scalar(), 1, x.ndim(), "the input");
  index cells;
  const std::vector<index> shape = shape_of(x, cells);
  Memory memory(checked_mul(cells, scalar_bytes(x.scalar())));
  with_floating_type(x.scalar(), [&](auto t) {
    const Strided in = strided(x);
    const ReleaseGil released;
    if (cells) relu<decltype(t)>(current_isa(), shape, in, memory.data());
  });
  return memory;
}

std::optional<Memory> relu_gradient_of(nb::handle grad, nb::handle output) {
  const Array g(grad), y(output);
  if (g.foreign() || y.foreign()) return std::nullopt;
  y.expect(g.scalar(), 1, g.ndim(), "the output");
  index cells, same;
  const std::vector<index> shape = shape_of(g, cells);
  if (shape_of(y, same) != shape) refuse("gradient and output differ in shape");
  Memory memory(checked_mul(cells, scalar_bytes(g.scalar())));
  with_floating_type(g.scalar(), [&](auto t) {
    const Strided in = strided(g), out = strided(y);
    const ReleaseGil released;
    if (cells) relu_gradient<decltype(t)>(current_isa(), shape, in, out, memory.data());
  });
  return memory;
}

}  // namespace

void bind_layers(nb::module_& m) {
  nb::class_<Windows>(m, "Windows", "Where the windows of a pooling layer lie along one axis.")
      .def(nb::new_(&regular_windows), "size"_a, "outputs"_a, "kernel"_a, "stride"_a, "pad"_a, "dilation"_a)
      .def_static("adaptive", &adaptive_windows, "size"_a, "begin"_a, "end"_a)
      .def_prop_ro("outputs", [](const Windows& w) { return w.axis.outputs; });
  m.def("max_pool2d", &max_pool2d, "rows"_a, "columns"_a, "x"_a, "with_cells"_a);
  m.def("max_pool2d_gradient", &max_pool2d_gradient, "rows"_a, "columns"_a, "grad"_a, "cells"_a);
  m.def("avg_pool2d", &avg_pool2d, "rows"_a, "columns"_a, "array"_a, "count_pad"_a, "divisor"_a, "gradient"_a);
  m.def("channel_moments", &moments, "x"_a);
  m.def("channel_products", &products, "grad"_a, "x"_a, "center"_a);
  m.def("channel_affine", &affine, "x"_a, "center"_a, "scale"_a, "shift"_a);
  m.def("channel_combine", &combine, "grad"_a, "x"_a, "a"_a, "b"_a, "center"_a, "shift"_a);
  m.def("relu", &relu_of, "x"_a);
  m.def("relu_gradient", &relu_gradient_of, "grad"_a, "y"_a);
}

}  // namespace konv
