// Arrays at the border: see arrays.hpp.
#include <algorithm>
#include <cstring>
#include <string_view>
#include "arrays.hpp"
#include "cpu.hpp"

namespace konv {
namespace {

struct Format {
  std::string_view text;  // of the struct module, as NumPy writes it
  std::string_view dtype;
  Scalar scalar;
  int parts;
};

// clang-format off
constexpr Format formats[] = {
    {"f", "float32", Scalar::f32, 1},   {"d", "float64", Scalar::f64, 1},    {"e", "float16", Scalar::f16, 1},
    {"H", "bfloat16", Scalar::bf16, 1}, {"Zf", "complex64", Scalar::f32, 2}, {"Zd", "complex128", Scalar::f64, 2},
    {"b", "int8", Scalar::i8, 1},       {"h", "int16", Scalar::i16, 1},      {"i", "int32", Scalar::i32, 1},
    {"q", "int64", Scalar::i64, 1},     {"B", "uint8", Scalar::u8, 1},
    {"l", sizeof(long) == 8 ? "int64" : "int32", sizeof(long) == 8 ? Scalar::i64 : Scalar::i32, 1}};
// clang-format on
constexpr std::string_view modes[] = {"zeros", "reflect", "replicate", "circular"};
constexpr std::string_view precisions[] = {"highest", "high", "medium"};

const Format* find_format(std::string_view Format::* name, std::string_view wanted) {
  const Format* found = std::ranges::find(formats, wanted, name);
  return found == std::end(formats) ? nullptr : found;
}

template <class Enum, std::size_t N> Enum by_name(const std::string_view (&names)[N], const std::string& name) {
  const auto found = std::find(names, names + N, name);
  if (found == names + N) throw std::invalid_argument("konv: unknown name '" + name + "'");
  return static_cast<Enum>(found - names);
}
}  // namespace

Problem make_problem(const std::vector<index>& s, const std::string& mode, const std::string& dtype,
                     const std::string& precision) {
  const Format* format = find_format(&Format::dtype, dtype);
  if (!format) throw std::invalid_argument("konv: unknown dtype '" + dtype + "'");
  if (s.size() != 15) throw std::invalid_argument("konv: a problem has 15 sizes");
  const index c = checked_mul(s[0], format->parts), oc = checked_mul(s[3], format->parts);
  Geometry g{c,    s[1], s[2],  oc,    s[4],  s[5],  s[6],  s[7],
             s[8], s[9], s[10], s[11], s[12], s[13], s[14], by_name<PadMode>(modes, mode)};
  if (g.oh == 1) g.stride_h = 1;  // never taken, and perhaps too large to count with
  if (g.ow == 1) g.stride_w = 1;
  check_sizes(g, format->scalar);
  return {g, format->scalar, format->parts, &current_isa(), by_name<Precision>(precisions, precision)};
}

Array::Array(nb::handle array, bool writable) {
  if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) != 0)
    throw nb::python_error();
  const char* text = view_.format ? view_.format : "B";
  if (*text == '@') text++;
  foreign_ = *text && std::strchr("<>!=^", *text);  // not native, or not aligned
  if (foreign_) return;
  const Format* format = find_format(&Format::text, text);
  if (!format) {
    const std::string message = "konv: arrays of format '" + std::string(text) + "' are not supported";
    PyBuffer_Release(&view_);
    throw std::invalid_argument(message);
  }
  scalar_ = format->scalar, parts_ = format->parts;
  const index bytes = scalar_bytes(scalar_);
  foreign_ = reinterpret_cast<std::uintptr_t>(view_.buf) % bytes != 0;
  for (int i = 0; i < view_.ndim; i++) foreign_ |= view_.strides[i] % bytes != 0;
}

void Array::expect(Scalar scalar, int parts, std::initializer_list<index> shape, const char* who) const {
  const auto require = [&](bool holds, const char* rule) {
    if (!holds) throw std::invalid_argument(std::string("konv: ") + who + rule);
  };
  require(std::cmp_equal(shape.size(), view_.ndim), " does not have as many axes as it must");
  require(scalar_ == scalar && parts_ == parts, " does not have the dtype that it must");
  for (int axis = 0; axis < view_.ndim; axis++)
    require(shape.begin()[axis] == any || shape.begin()[axis] == size(axis), " does not have the shape that it must");
}
}  // namespace konv
