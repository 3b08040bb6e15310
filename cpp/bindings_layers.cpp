// The layers around a convolution, for Python: arrays are checked against each other, results are allocated, the GIL is
// released. A function returns None when an array must be copied first (foreign byte order or alignment).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>
#include <algorithm>
#include "arrays.hpp"
#include "cpu.hpp"
#include "layers/layers.hpp"

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
        view(dense_view(memory.data(), scalar, 1, c, h, w)) {}
};

// ---- pooling --------------------------------------------------------------------------------------------------------
PoolAxis windows(index size, index dilation, Sizes first, Sizes taps, Sizes counts, index kernel, index stride,
                 index spread, index pad) {
  const std::size_t outputs = first.size();
  if (size < 1 || !outputs || dilation < 1 || kernel < 0 || stride < 1 || spread < 1 || pad < 0)
    refuse("sizes of pooling windows must be positive");
  if (taps.size() != outputs) refuse("pooling windows need as many sizes as beginnings");
  for (std::size_t i = 0; i < outputs; i++)
    if (taps[i] && (taps[i] < 0 || first[i] < 0 || first[i] >= size || taps[i] - 1 > (size - 1 - first[i]) / dilation))
      refuse("pooling windows must lie inside the image");
  for (index count : counts)  // so that the product of two does not wrap, not to zero either
    if (!count || count != static_cast<std::int32_t>(count)) refuse("a divisor must fit in 32 bits and not be zero");
  const index placed = checked_add(checked_mul(size, spread), pad);
  const index read = checked_add(checked_mul(static_cast<index>(outputs), stride), checked_mul(kernel, dilation));
  if (std::max(placed, read) >= no_cell<index>) refuse("pooling windows are too large");
  return {size, dilation, std::move(first), std::move(taps), std::move(counts), kernel, stride, spread, pad};
}

// (values, cells): both of the output's shape; cells are int64, or None where they were not asked for.
nb::object pool2d(int number, const PoolAxis& rows, const PoolAxis& columns, nb::handle input, bool with_cells) {
  if (number < 0 || number > static_cast<int>(PoolKind::spread)) refuse("there is no such pooling");
  const PoolKind kind = static_cast<PoolKind>(number);
  const Array x(input);
  if (x.foreign()) return nb::none();
  x.expect(x.scalar(), 1, {Array::any, Array::any, rows.size, columns.size}, "the input");
  for (const PoolAxis* axis : {&rows, &columns})
    if (kind != PoolKind::maximum &&
        static_cast<index>(axis->counts.size()) != (kind == PoolKind::spread ? axis->size : axis->outputs()))
      refuse("an average needs as many divisors as windows");
  const index n = x.size(0), c = x.size(1);
  Image y(n, c, rows.outputs(), columns.outputs(), x.scalar());
  std::optional<Image> cells;
  if (with_cells) cells.emplace(n, c, rows.outputs(), columns.outputs(), Scalar::i64);
  index* places = cells ? static_cast<index*>(cells->memory.data()) : nullptr;
  {
    const ReleaseGil released;
    pool(current_isa(), {kind, rows, columns, n, c, x.image(), y.view, places});
  }
  return nb::make_tuple(std::move(y.memory), cells ? nb::cast(std::move(cells->memory)) : nb::none());
}

std::optional<Memory> max_pool2d_gradient(nb::handle grad, nb::handle places, index h, index w) {
  const Array gy(grad), cells(places);
  if (gy.foreign() || cells.foreign()) return std::nullopt;
  gy.expect(gy.scalar(), 1, {Array::any, Array::any, Array::any, Array::any}, "the gradient");
  const index n = gy.size(0), c = gy.size(1);
  cells.expect(Scalar::i64, 1, {n, c, gy.size(2), gy.size(3)}, "the indices");
  if (h < 1 || w < 1) refuse("the image has no cells");
  Image gx(n, c, h, w, gy.scalar());
  const ReleaseGil released;
  max_pool_gradient(current_isa(), n, c, gy.image(), cells.image(), gx.view);
  return std::move(gx.memory);
}

// ---- passes ---------------------------------------------------------------------------------------------------------
struct PassForm {
  const char* name;
  Pass pass;
  std::size_t images, numbers;
};
constexpr PassForm passes[] = {{"channel_sums", Pass::sums, 1, 0},         {"channel_moments", Pass::moments, 1, 0},
                               {"channel_products", Pass::products, 2, 1}, {"channel_affine", Pass::affine, 1, 3},
                               {"channel_combine", Pass::combine, 2, 4},   {"relu", Pass::relu, 1, 0},
                               {"relu_gradient", Pass::relu, 2, 0}};

// Images x and perhaps g; then numbers, each (n or 1, c) of float64. Gives an image like x, or two sums a channel.
std::optional<Memory> run(const PassForm& form, nb::args handles) {
  if (handles.size() != form.images + form.numbers) refuse("a pass has another number of arrays");
  std::optional<Array> array[6];
  for (std::size_t i = 0; i < handles.size(); i++)
    if (array[i].emplace(handles[i]).foreign()) return std::nullopt;
  const Array& x = *array[0];
  x.expect(x.scalar(), 1, {Array::any, Array::any, Array::any, Array::any}, "the input");
  const index n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  PassArrays a{n, c, {}, {}, {}, nullptr};
  for (std::size_t i = 0; i < form.images; i++) {
    array[i]->expect(x.scalar(), 1, {n, c, h, w}, "the gradient");
    a.images[i] = array[i]->image();
  }
  for (std::size_t i = 0; i < form.numbers; i++) {
    const Array& values = *array[form.images + i];
    values.expect(Scalar::f64, 1, {Array::any, c}, "a statistic");
    const bool shared = values.size(0) == 1;
    if (!shared && values.size(0) != n) refuse("a statistic does not have the shape (n or 1, channels)");
    a.numbers[i] = {static_cast<const double*>(values.data()), shared ? 0 : values.stride(0), values.stride(1)};
  }
  const bool sums = form.pass <= Pass::products, empty = h < 1 || w < 1;
  if (sums && empty) refuse("an image to normalise has no cells");
  Image result = sums ? Image(2, n, c, 1, Scalar::f64) : Image(n, c, h, w, x.scalar());
  if (sums) a.sums = static_cast<double*>(result.memory.data());
  else a.y = result.view;
  const ReleaseGil released;
  if (!empty) run_pass(form.pass, current_isa(), a);
  return std::move(result.memory);
}
}  // namespace

void bind_layers(nb::module_& m) {
  nb::class_<PoolAxis>(m, "Windows", "Where the windows of a pooling layer lie along one axis.")
      .def(nb::new_(&windows), "size"_a, "dilation"_a, "first"_a, "taps"_a, "counts"_a, "kernel"_a, "stride"_a,
           "spread"_a, "pad"_a);
  m.def("pool2d", &pool2d, "kind"_a, "rows"_a, "columns"_a, "x"_a, "with_cells"_a);
  m.def("max_pool2d_gradient", &max_pool2d_gradient, "grad"_a, "cells"_a, "h"_a, "w"_a);
  for (const PassForm& form : passes) m.def(form.name, [&form](nb::args arrays) { return run(form, arrays); });
}
}  // namespace konv
