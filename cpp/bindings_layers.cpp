// The layers around a convolution, for Python: arrays are checked against each other, results are allocated, the GIL is
// released. A function returns None when an array must be copied first (foreign byte order or alignment).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "arrays.hpp"
#include "cpu.hpp"
#include "layers/passes.hpp"
#include "layers/pool.hpp"

namespace konv {
namespace {

using namespace nb::literals;
using Handles = std::initializer_list<nb::handle>;

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("konv: ") + what); }

// The arrays of one call, at most four.
class Arrays {
 public:
  explicit Arrays(Handles handles) {
    std::optional<Array>* next = arrays_;
    for (const nb::handle& handle : handles) foreign_ |= (next++)->emplace(handle).foreign();
  }
  bool foreign() const { return foreign_; }
  const Array& operator[](std::size_t i) const { return *arrays_[i]; }

 private:
  std::optional<Array> arrays_[4];
  bool foreign_ = false;
};

void expect_image(const Array& a, Scalar scalar, index n, index c, index h, index w, const char* who) {
  a.expect(scalar, 1, 4, who);
  if (a.size(0) != n || a.size(1) != c || a.size(2) != h || a.size(3) != w)
    refuse("an image does not have the size of those that belong to it");
}

// A result of the shape (n, c, h, w).
struct Image {
  Memory memory;
  OutputView view;
  Image(index n, index c, index h, index w, Scalar scalar)
      : memory(checked_mul(checked_mul(checked_mul(n, c), checked_mul(h, w)), scalar_bytes(scalar))),
        view(dense_view(memory.data(), scalar, 1, c, h, w)) {}
};

// ---- pooling --------------------------------------------------------------------------------------------------------

PoolAxis regular_windows(index size, index outputs, index kernel, index stride, index pad, index dilation) {
  if (size < 1 || outputs < 1 || kernel < 1 || stride < 1 || pad < 0 || dilation < 1)
    refuse("sizes of pooling windows must be positive");
  checked_add(checked_mul(outputs, stride), checked_add(checked_add(size, pad), checked_mul(kernel, dilation)));
  return {size, outputs, kernel, stride, pad, dilation};
}

PoolAxis adaptive_windows(index size, const std::vector<index>& begin, const std::vector<index>& end) {
  if (begin.empty() || begin.size() != end.size()) refuse("adaptive windows need as many ends as beginnings");
  index longest = 0;
  for (std::size_t i = 0; i < begin.size(); i++) {
    if (begin[i] < (i ? begin[i - 1] : 0) || end[i] <= begin[i] || (i && end[i] < end[i - 1]) || end[i] > size)
      refuse("adaptive windows must ascend inside the image");
    longest = std::max(longest, end[i] - begin[i]);
  }
  return {size, static_cast<index>(begin.size()), longest, 1, 0, 1, begin, end};
}

// (values, cells): both of the output's shape; cells are int64, or None where they were not asked for.
nb::object max_pool2d(const PoolAxis& rows, const PoolAxis& columns, nb::handle input, bool with_cells) {
  const Array x(input);
  if (x.foreign()) return nb::none();
  x.expect(x.scalar(), 1, 4, "the input");
  const index n = x.size(0), c = x.size(1);
  expect_image(x, x.scalar(), n, c, rows.size, columns.size, "the input");
  Image y(n, c, rows.outputs, columns.outputs, x.scalar());
  std::optional<Image> cells;
  if (with_cells) cells.emplace(n, c, rows.outputs, columns.outputs, Scalar::i64);
  with_compute_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    max_pool<decltype(t)>(current_isa(), {n, c, rows, columns}, x.image(), y.view,
                          cells ? static_cast<index*>(cells->memory.data()) : nullptr);
  });
  return nb::make_tuple(std::move(y.memory), cells ? nb::cast(std::move(cells->memory)) : nb::none());
}

std::optional<Memory> max_pool2d_gradient(const PoolAxis& rows, const PoolAxis& columns, nb::handle grad,
                                          nb::handle places) {
  const Arrays arrays{grad, places};
  if (arrays.foreign()) return std::nullopt;
  const Array &gy = arrays[0], &cells = arrays[1];
  gy.expect(gy.scalar(), 1, 4, "the gradient");
  const index n = gy.size(0), c = gy.size(1);
  expect_image(gy, gy.scalar(), n, c, rows.outputs, columns.outputs, "the gradient");
  expect_image(cells, Scalar::i64, n, c, rows.outputs, columns.outputs, "the indices");
  Image gx(n, c, rows.size, columns.size, gy.scalar());
  bool inside = true;
  with_compute_type(gy.scalar(), [&](auto t) {
    const ReleaseGil released;
    inside = max_pool_gradient<decltype(t)>(current_isa(), {n, c, rows, columns}, gy.image(), cells.image(), gx.view);
  });
  if (!inside) refuse("an index of max_pool2d lies outside the image");
  return std::move(gx.memory);
}

std::optional<Memory> avg_pool2d(const PoolAxis& rows, const PoolAxis& columns, nb::handle array, bool count_pad,
                                 index divisor, bool gradient) {
  const Array a(array);
  if (a.foreign()) return std::nullopt;
  a.expect(a.scalar(), 1, 4, "the input");
  const index n = a.size(0), c = a.size(1);
  index h = rows.size, w = columns.size, to_h = rows.outputs, to_w = columns.outputs;
  if (gradient) std::swap(h, to_h), std::swap(w, to_w);
  expect_image(a, a.scalar(), n, c, h, w, gradient ? "the gradient" : "the input");
  if (rows.dilation != 1 || columns.dilation != 1) refuse("averages have no dilation");
  Image y(n, c, to_h, to_w, a.scalar());
  with_compute_type(a.scalar(), [&](auto t) {
    const ReleaseGil released;
    const Pooling p{n, c, rows, columns, count_pad, divisor};
    (gradient ? avg_pool_gradient<decltype(t)> : avg_pool<decltype(t)>)(current_isa(), p, a.image(), y.view);
  });
  return std::move(y.memory);
}

// ---- passes ---------------------------------------------------------------------------------------------------------

// `images` are x and, where the pass has one, g; each of `numbers` is (n or 1, c) of float64. The result is an image
// like x, or two sums of each channel.
std::optional<Memory> run(Pass pass, Handles images, Handles numbers = {}) {
  const Arrays image(images), number(numbers);
  if (image.foreign() || number.foreign()) return std::nullopt;
  const Array& x = image[0];
  const bool sums = pass == Pass::moments || pass == Pass::products;
  x.expect(x.scalar(), 1, 4, "the input");
  PassArrays a{x.size(0), x.size(1), x.image(), {}, {}, {}, nullptr};
  if (images.size() > 1) {
    expect_image(image[1], x.scalar(), a.n, a.c, x.size(2), x.size(3), "the gradient");
    a.g = image[1].image();
  }
  for (std::size_t i = 0; i < numbers.size(); i++) {
    const Array& values = number[i];
    values.expect(Scalar::f64, 1, 2, "a statistic");
    if ((values.size(0) != a.n && values.size(0) != 1) || values.size(1) != a.c)
      refuse("a statistic does not have the shape (n or 1, channels)");
    const index step = values.size(0) == 1 ? 0 : values.stride(0);
    a.numbers[i] = {static_cast<const double*>(values.data()), step, values.stride(1)};
  }
  const bool empty = x.size(2) < 1 || x.size(3) < 1;
  if (sums && empty) refuse("an image to normalise has no cells");
  Image result = sums ? Image(2, a.n, a.c, 1, Scalar::f64) : Image(a.n, a.c, x.size(2), x.size(3), x.scalar());
  if (sums) a.sums = static_cast<double*>(result.memory.data());
  else a.y = result.view;
  with_compute_type(x.scalar(), [&](auto t) {
    if constexpr (std::is_same_v<decltype(t), index>) {
      refuse("this layer has no integers");
    } else {
      const ReleaseGil released;
      if (!empty) run_pass<decltype(t)>(pass, current_isa(), a);
    }
  });
  return std::move(result.memory);
}

}  // namespace

void bind_layers(nb::module_& m) {
  using H = nb::handle;
  nb::class_<PoolAxis>(m, "Windows", "Where the windows of a pooling layer lie along one axis.")
      .def(nb::new_(&regular_windows), "size"_a, "outputs"_a, "kernel"_a, "stride"_a, "pad"_a, "dilation"_a)
      .def_static("adaptive", &adaptive_windows, "size"_a, "begin"_a, "end"_a)
      .def_ro("outputs", &PoolAxis::outputs);
  m.def("max_pool2d", &max_pool2d, "rows"_a, "columns"_a, "x"_a, "with_cells"_a);
  m.def("max_pool2d_gradient", &max_pool2d_gradient, "rows"_a, "columns"_a, "grad"_a, "cells"_a);
  m.def("avg_pool2d", &avg_pool2d, "rows"_a, "columns"_a, "array"_a, "count_pad"_a, "divisor"_a, "gradient"_a);
  m.def("channel_moments", [](H x) { return run(Pass::moments, {x}); }, "x"_a);
  m.def(
      "channel_products", [](H grad, H x, H center) { return run(Pass::products, {x, grad}, {center}); }, "grad"_a,
      "x"_a, "center"_a);
  m.def(
      "channel_affine", [](H x, H center, H scale, H shift) { return run(Pass::affine, {x}, {center, scale, shift}); },
      "x"_a, "center"_a, "scale"_a, "shift"_a);
  m.def(
      "channel_combine",
      [](H grad, H x, H a, H b, H center, H shift) { return run(Pass::combine, {x, grad}, {center, a, b, shift}); },
      "grad"_a, "x"_a, "a"_a, "b"_a, "center"_a, "shift"_a);
  m.def("relu", [](H x) { return run(Pass::relu, {x}); }, "x"_a);
  m.def("relu_gradient", [](H grad, H y) { return run(Pass::relu_gradient, {y, grad}); }, "grad"_a, "y"_a);
}

}  // namespace konv
