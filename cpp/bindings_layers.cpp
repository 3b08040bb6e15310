// The layers around a convolution, for Python: arrays are checked against each other, results are allocated, the GIL is
// released. A function returns None when an array must be copied first (foreign byte order or alignment).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "arrays.hpp"
#include "cpu.hpp"
#include "layers/passes.hpp"
#include "layers/pool.hpp"

namespace konv {
namespace {

using namespace nb::literals;
using Sizes = std::vector<index>;

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("konv: ") + what); }

// A result of the shape (n, c, h, w).
struct Image {
  Memory memory;
  OutputView view;
  Image(index n, index c, index h, index w, Scalar scalar)
      : memory(checked_mul(checked_mul(checked_mul(n, c), checked_mul(h, w)), scalar_bytes(scalar))),
        view(dense_output(memory.data(), scalar, 1, c, h, w)) {}
};

// ---- pooling --------------------------------------------------------------------------------------------------------

PoolAxis windows(index size, index dilation, const Sizes& first, const Sizes& taps, index kernel, index stride,
                 index spread, index pad) {
  if (size < 1 || dilation < 1 || kernel < 0 || stride < 1 || spread < 1 || pad < 0)
    refuse("sizes of pooling windows must be positive");
  if (first.empty() || first.size() != taps.size()) refuse("pooling windows need as many sizes as beginnings");
  for (std::size_t i = 0; i < first.size(); i++)
    if (taps[i] < 0 ||
        (taps[i] && (first[i] < 0 || first[i] >= size || taps[i] - 1 > (size - 1 - first[i]) / dilation)))
      refuse("pooling windows must lie inside the image");
  checked_add(checked_mul(static_cast<index>(first.size()), stride),
              checked_add(checked_add(checked_mul(size, spread), pad), checked_mul(kernel, dilation)));
  return {size, dilation, first, taps, kernel, stride, spread, pad};
}

// (values, cells): both of the output's shape; cells are int64, or None where they were not asked for.
nb::object run_pool(Pooling p, nb::handle input, bool with_cells) {
  const Array x(input);
  if (x.foreign()) return nb::none();
  x.expect(x.scalar(), 1, {Array::any, Array::any, p.rows.size, p.columns.size}, "the input");
  p.n = x.size(0), p.c = x.size(1), p.x = x.image();
  Image y(p.n, p.c, p.rows.outputs(), p.columns.outputs(), x.scalar());
  std::optional<Image> cells;
  if (with_cells) cells.emplace(p.n, p.c, p.rows.outputs(), p.columns.outputs(), Scalar::i64);
  p.y = y.view, p.cells = cells ? static_cast<index*>(cells->memory.data()) : nullptr;
  with_compute_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    pool<decltype(t)>(current_isa(), p);
  });
  return nb::make_tuple(std::move(y.memory), cells ? nb::cast(std::move(cells->memory)) : nb::none());
}

nb::object max_pool2d(const PoolAxis& rows, const PoolAxis& columns, nb::handle x, bool with_cells) {
  return run_pool({PoolKind::maximum, rows, columns}, x, with_cells);
}

// Counts are int64, contiguous: of the outputs, or of the inputs of a transpose.
nb::object avg_pool2d(const PoolAxis& rows, const PoolAxis& columns, nb::handle x, nb::handle row_counts,
                      nb::handle column_counts, bool transpose) {
  const Array counts[] = {Array(row_counts), Array(column_counts)};
  const PoolAxis* axes[] = {&rows, &columns};
  const index* values[2];
  for (int i = 0; i < 2; i++) {
    const index size = transpose ? axes[i]->size : axes[i]->outputs();
    counts[i].expect(Scalar::i64, 1, {size}, "a count of cells");
    if (counts[i].foreign() || (counts[i].stride(0) != 1 && size > 1)) refuse("counts of cells must be contiguous");
    values[i] = static_cast<const index*>(counts[i].data());
    if (std::find(values[i], values[i] + size, 0) != values[i] + size) refuse("a count of cells is zero");
  }
  return run_pool({transpose ? PoolKind::spread : PoolKind::average, rows, columns, values[0], values[1]}, x, false);
}

std::optional<Memory> max_pool2d_gradient(nb::handle grad, nb::handle places, index h, index w) {
  const Array gy(grad), cells(places);
  if (gy.foreign() || cells.foreign()) return std::nullopt;
  gy.expect(gy.scalar(), 1, 4, "the gradient");
  const index n = gy.size(0), c = gy.size(1);
  cells.expect(Scalar::i64, 1, {n, c, gy.size(2), gy.size(3)}, "the indices");
  if (h < 1 || w < 1) refuse("the image has no cells");
  Image gx(n, c, h, w, gy.scalar());
  bool inside = true;
  with_compute_type(gy.scalar(), [&](auto t) {
    const ReleaseGil released;
    inside = max_pool_gradient<decltype(t)>(current_isa(), n, c, gy.image(), cells.image(), gx.view);
  });
  if (!inside) refuse("an index of max_pool2d lies outside the image");
  return std::move(gx.memory);
}

// ---- passes ---------------------------------------------------------------------------------------------------------

struct PassForm {
  const char* name;
  Pass pass;
  std::size_t images, numbers;
};
constexpr PassForm passes[] = {{"channel_total", Pass::total, 1, 0},       {"channel_moments", Pass::moments, 1, 0},
                               {"channel_products", Pass::products, 2, 1}, {"channel_affine", Pass::affine, 1, 3},
                               {"channel_combine", Pass::combine, 2, 4},   {"relu", Pass::relu, 1, 0},
                               {"relu_gradient", Pass::relu, 2, 0}};

// Images x and, where the pass has one, g; then numbers, each (n or 1, c) of float64. The result is an image like x, or
// two sums of each channel.
std::optional<Memory> run(const PassForm& form, nb::args handles) {
  if (handles.size() != form.images + form.numbers) refuse("a pass has another number of arrays");
  std::deque<Array> arrays;
  for (const nb::handle& handle : handles)
    if (arrays.emplace_back(handle).foreign()) return std::nullopt;
  const Array& x = arrays[0];
  x.expect(x.scalar(), 1, 4, "the input");
  const index n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  PassArrays a{n, c, {}, {}, {}, nullptr};
  for (std::size_t i = 0; i < form.images; i++) {
    arrays[i].expect(x.scalar(), 1, {n, c, h, w}, "the gradient");
    a.images[i] = arrays[i].image();
  }
  for (std::size_t i = 0; i < form.numbers; i++) {
    const Array& values = arrays[form.images + i];
    values.expect(Scalar::f64, 1, 2, "a statistic");
    if ((values.size(0) != n && values.size(0) != 1) || values.size(1) != c)
      refuse("a statistic does not have the shape (n or 1, channels)");
    a.numbers[i] = {static_cast<const double*>(values.data()), values.size(0) == 1 ? 0 : values.stride(0),
                    values.stride(1)};
  }
  const bool sums = form.pass <= Pass::products, empty = h < 1 || w < 1;
  if (sums && empty) refuse("an image to normalise has no cells");
  Image result = sums ? Image(2, n, c, 1, Scalar::f64) : Image(n, c, h, w, x.scalar());
  if (sums) a.sums = static_cast<double*>(result.memory.data());
  else a.y = result.view;
  with_floating_type(x.scalar(), [&](auto t) {
    const ReleaseGil released;
    if (!empty) run_pass<decltype(t)>(form.pass, current_isa(), a);
  });
  return std::move(result.memory);
}

}  // namespace

void bind_layers(nb::module_& m) {
  nb::class_<PoolAxis>(m, "Windows", "Where the windows of a pooling layer lie along one axis.")
      .def(nb::new_(&windows), "size"_a, "dilation"_a, "first"_a, "taps"_a, "kernel"_a, "stride"_a, "spread"_a,
           "pad"_a);
  m.def("max_pool2d", &max_pool2d, "rows"_a, "columns"_a, "x"_a, "with_cells"_a);
  m.def("avg_pool2d", &avg_pool2d, "rows"_a, "columns"_a, "x"_a, "row_counts"_a, "column_counts"_a, "transpose"_a);
  m.def("max_pool2d_gradient", &max_pool2d_gradient, "grad"_a, "cells"_a, "h"_a, "w"_a);
  for (const PassForm& form : passes) m.def(form.name, [&form](nb::args arrays) { return run(form, arrays); });
}

}  // namespace konv
