// Arrays at the border: see arrays.hpp.
#include <cstring>
#include <stdexcept>

#include "arrays.hpp"

namespace konv {
namespace {

struct Format {
  const char* text;  // of the struct module, as NumPy writes it
  Scalar scalar;
  int parts;
};

constexpr Scalar long_scalar = sizeof(long) == 8 ? Scalar::i64 : Scalar::i32;
constexpr Format formats[] = {{"f", Scalar::f32, 1},  {"d", Scalar::f64, 1},  {"e", Scalar::f16, 1},
                              {"H", Scalar::bf16, 1}, {"Zf", Scalar::f32, 2}, {"Zd", Scalar::f64, 2},
                              {"b", Scalar::i8, 1},   {"B", Scalar::u8, 1},   {"h", Scalar::i16, 1},
                              {"i", Scalar::i32, 1},  {"l", long_scalar, 1},  {"q", Scalar::i64, 1}};

const Format* find_format(const char* text) {
  for (const Format& format : formats)
    if (std::strcmp(format.text, text) == 0) return &format;
  return nullptr;
}

template <class Enum, std::size_t N>
Enum by_name(const char* const (&names)[N], const std::string& name, const char* what) {
  for (std::size_t i = 0; i < N; i++)
    if (name == names[i]) return static_cast<Enum>(i);
  throw std::invalid_argument("konv: unknown " + std::string(what) + " '" + name + "'");
}

constexpr const char* scalar_names[] = {"float32", "float64", "float16", "bfloat16", "int8",
                                        "int16",   "int32",   "int64",   "uint8"};
constexpr const char* mode_names[] = {"zeros", "reflect", "replicate", "circular"};
constexpr const char* precision_names[] = {"highest", "high", "medium"};

}  // namespace

Problem parse_problem(const std::vector<index>& s, const std::string& mode, const std::string& dtype,
                      const std::string& precision) {
  if (s.size() != 15) throw std::invalid_argument("konv: a problem has 15 sizes");
  const int parts = dtype == "complex64" || dtype == "complex128" ? 2 : 1;
  const std::string part = dtype == "complex64" ? "float32" : dtype == "complex128" ? "float64" : dtype;
  // clang-format off
  const Geometry g{checked_mul(s[0], parts), s[1], s[2], checked_mul(s[3], parts), s[4], s[5],
                   s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13], s[14],
                   by_name<PadMode>(mode_names, mode, "padding mode")};
  // clang-format on
  return {g, by_name<Scalar>(scalar_names, part, "dtype"), parts,
          by_name<Precision>(precision_names, precision, "precision")};
}

Array::Array(nb::handle array, bool writable) {
  if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) != 0)
    throw nb::python_error();
  const char* text = view_.format ? view_.format : "B";
  if (*text == '@') text++;
  if (*text && std::strchr("<>!=^", *text)) {  // not native, or not aligned
    foreign_ = true;
    return;
  }
  const Format* format = find_format(text);
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

void Array::expect(Scalar scalar, int parts, int ndim, const char* who) const {
  if (view_.ndim != ndim)
    throw std::invalid_argument(std::string("konv: ") + who + " must have " + std::to_string(ndim) + " axes");
  if (scalar_ != scalar || parts_ != parts)
    throw std::invalid_argument(std::string("konv: ") + who + " does not have the plan's dtype");
}

void Array::expect(Scalar scalar, int parts, std::initializer_list<index> shape, const char* who) const {
  expect(scalar, parts, static_cast<int>(shape.size()), who);
  const index* sizes = shape.begin();
  for (int axis = 0; axis < view_.ndim; axis++)
    if (sizes[axis] != any && sizes[axis] != size(axis))
      throw std::invalid_argument(std::string("konv: ") + who + " does not have the plan's shape");
}

OutputView dense_output(void* data, Scalar scalar, int parts, index c, index h, index w) {
  const index plane = h * w * parts;
  return {data, scalar, parts, h, w, c / parts * plane, plane, w * parts, parts};
}

template <class T>
std::vector<T> in_compute_type(const IsaTable& isa, const Array* vector, index count) {
  std::vector<T> values(static_cast<std::size_t>(count), T(0));
  if (!vector) return values;
  const int parts = vector->parts();
  const RowTable<T>& rows = isa.rows<T>();
  const char* source = static_cast<const char*>(vector->data());
  if (parts == 1) {
    rows.load(vector->scalar(), values.data(), source, vector->stride(0), count);
  } else {
    for (index i = 0; i < count; i++)
      rows.load(vector->scalar(), &values[i],
                source + (i / parts * vector->stride(0) + i % parts) * scalar_bytes(vector->scalar()), 1, 1);
  }
  return values;
}

template std::vector<float> in_compute_type<float>(const IsaTable&, const Array*, index);
template std::vector<double> in_compute_type<double>(const IsaTable&, const Array*, index);
template std::vector<index> in_compute_type<index>(const IsaTable&, const Array*, index);

}  // namespace konv
