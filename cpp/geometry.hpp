// One convolution as plain numbers, and views of the memory it reads and writes.
//
// Everything here is counted in *real* channels and scalars: a complex image of C channels is a real one of 2C channels
// (parts = 2), so that no kernel knows what a complex number is. Strides are in scalars and may be negative or zero.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <type_traits>

namespace konv {

using index = std::int64_t;

enum class PadMode : std::uint8_t { zeros, reflect, replicate, circular };

// What memory holds, the floating ones first. A complex array is its scalar type with parts = 2. bf16x2 are two
// channels of bfloat16 seen as one: the second lies half as far as the next pair.
enum class Scalar : std::uint8_t { f32, f64, f16, bf16, i8, i16, i32, i64, u8, bf16x2, count };

constexpr index scalar_bytes(Scalar s) {
  constexpr index bytes[] = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2};
  return bytes[static_cast<int>(s)];
}
constexpr bool is_floating(Scalar s) { return s <= Scalar::bf16; }

// The scalar that memory holds when it holds the compute type T itself: such rows need no conversion.
template <class T>
constexpr Scalar scalar_of = std::is_same_v<T, float>    ? Scalar::f32
                             : std::is_same_v<T, double> ? Scalar::f64
                                                         : Scalar::i64;

// The only home of checked size arithmetic: throws instead of wrapping.
inline index checked_mul(index a, index b) {
  index r;
  if (__builtin_mul_overflow(a, b, &r)) throw std::overflow_error("konv: a size does not fit in 64 bits");
  return r;
}
inline index checked_add(index a, index b) {
  index r;
  if (__builtin_add_overflow(a, b, &r)) throw std::overflow_error("konv: a size does not fit in 64 bits");
  return r;
}

constexpr index ceil_div(index a, index b) { return a / b + (a % b > 0); }
constexpr index round_up(index a, index b) { return ceil_div(a, b) * b; }

// One convolution for any number of images. End pads follow from oh, ow; negative ones, of gradients, crop the image.
struct Geometry {
  index c, h, w;     // image: real channels, rows, columns
  index oc, oh, ow;  // output: real channels, rows, columns
  index kh, kw;
  index stride_h, stride_w;
  index dilation_h, dilation_w;
  index pad_top, pad_left;
  index groups;
  PadMode mode;

  index group_c() const { return c / groups; }
  index group_oc() const { return oc / groups; }
  index taps() const { return kh * kw; }
  // Of the padded image, what the outputs see.
  index rows_seen() const { return (oh - 1) * stride_h + (kh - 1) * dilation_h + 1; }
  index columns_seen() const { return (ow - 1) * stride_w + (kw - 1) * dilation_w + 1; }
};

constexpr index page_bytes = 4096;       // hardware fetches ahead within one; cells whole pages apart share a set of L1
constexpr index cached_bytes = 7 << 19;  // 3.5 MiB: more images and outputs come from memory (measured: 3.5 to 8)
// Of n images and their outputs.
inline index bytes_of(const Geometry& g, Scalar scalar, index n) {
  const index values = checked_add(checked_mul(g.c, g.h * g.w), checked_mul(g.oc, g.oh * g.ow));
  return checked_mul(checked_mul(n, values), scalar_bytes(scalar));
}

// Scratch that one call with n images may take in all: 8 MiB, or a quarter of the images and their outputs.
constexpr index least_limit = index{8} << 20;
inline index scratch_limit(const Geometry& g, Scalar scalar, index n) {
  const index share = bytes_of(g, scalar, n) / 4;
  return share > least_limit ? share : least_limit;
}

// (n, c, h, w) in memory; channel 2c+p of a complex image is part p of channel c.
template <class Void> struct View {
  Void* data;
  Scalar scalar;
  int parts;  // 1 real, 2 complex
  index h, w;
  index sn, sc, sh, sw;  // strides in scalars

  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  Void* at(index i) const { return static_cast<Byte*>(data) + i * scalar_bytes(scalar); }
  Void* plane(index n, index c) const { return at(n * sn + (parts == 1 ? c * sc : (c >> 1) * sc + (c & 1))); }
  Void* cell(index n, index c, index row, index column) const {
    return static_cast<Byte*>(plane(n, c)) + (row * sh + column * sw) * scalar_bytes(scalar);
  }
};
using ImageView = View<const void>;
using OutputView = View<void>;

// Contiguous; c counts real channels.
template <class Void> View<Void> dense_view(Void* data, Scalar scalar, int parts, index c, index h, index w) {
  const index row = w * parts, plane = h * row;
  return {data, scalar, parts, h, w, c / parts * plane, plane, row, parts};
}

// Element (group g, output o of the group, input i of the group, kh, kw). A flip, an exchange of channels and a choice
// of every s-th tap (the input gradient needs all three) are only strides.
struct WeightView {
  const void* data;
  Scalar scalar;
  int parts;                 // 2: o and i count real channels; the 2x2 block is [[re, -im], [im, re]]
  index sg, so, si, sh, sw;  // strides in scalars between complex/real elements

  const void* at(index i) const { return static_cast<const char*>(data) + i * scalar_bytes(scalar); }
};
}  // namespace konv
