// Rows of numbers between memory and the type that kernels compute in.
//
//   memory   f16  . . f16  . . f16  . .      any storage type, any stride (negative and zero too)
//   kernels  f32 f32 f32 ...                 float, double or index; contiguous
//
// Contiguous rows are converted a vector at a time; of every second, third or fourth element, that many vectors are
// loaded and their lanes brought together; everything else is gathered, one vector's worth of elements at a time. No
// element outside the row is touched.
//
// float16 and bfloat16 round to nearest, ties to even, and keep NaN: F16C and AVX-512 have instructions for float16;
// the rest is done on the bits (F. Giesen, "float->half variants", 2012).
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

struct Half {
  std::uint16_t bits;
};
struct Brain {  // bfloat16: the upper half of a float
  std::uint16_t bits;
};

template <int L>
using bits32 = typename vec_type<std::uint32_t, L>::type;
template <int L>
using bits16 = typename vec_type<std::uint16_t, L>::type;

template <int L>
KONV_INLINE bits32<L> widen(const void* p) {
  bits16<L> narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, bits32<L>);
}
template <int L>
KONV_INLINE void store_narrow(void* p, bits32<L> v) {
  const bits16<L> narrow = __builtin_convertvector(v, bits16<L>);
  __builtin_memcpy(p, &narrow, sizeof narrow);
}

// ---- one vector from memory: the storage type S decides ------------------------------------------------------------
template <class T, class S>
KONV_INLINE vec<T> load_as(const S* p) {
  constexpr int L = lanes_of<T>;
  if constexpr (__is_same(S, Brain)) {
    return (vec<T>)(widen<L>(p) << 16);
  } else if constexpr (__is_same(S, Half)) {
#if defined(__AVX512F__)
    return (vec<T>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
    return (vec<T>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    const bits32<L> h = widen<L>(p), magnitude = h & 0x7fff;
    // Exponent and fraction as a float that is 2^112 too small; the product is exact, subnormals included.
    const vec<T> value = (vec<T>)(magnitude << 13) * splat<T>(0x1p112f);
    const bits32<L> special = (bits32<L>)(magnitude > 0x7bff) & 0x7f800000;  // infinity and NaN
    return (vec<T>)((bits32<L>)value | special | (h & 0x8000) << 16);
#endif
  } else if constexpr (__is_same(S, T)) {
    return load<T>(p);
  } else {
    typename vec_type<S, L>::type v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vec<T>);
  }
}

// ---- one vector to memory ------------------------------------------------------------------------------------------
template <int L>
KONV_INLINE bits32<L> float_to_half(bits32<L> f) {
  const bits32<L> sign = f >> 16 & 0x8000, a = f & 0x7fffffff;
  typedef float floats __attribute__((vector_size(L * 4)));
  // Normal: move the exponent's bias and round at bit 13. Subnormal: adding 0.5 makes the FPU round at the right bit.
  const bits32<L> normal = (a + 0xc8000fff + (a >> 13 & 1)) >> 13;
  const bits32<L> half_one = bits32<L>{} + 0x3f000000;
  const bits32<L> subnormal = (bits32<L>)((floats)a + (floats)half_one) - half_one;
  const bits32<L> nan = (bits32<L>)(a > 0x7f800000);
  const bits32<L> special = ((0x200 | (a >> 13 & 0x3ff)) & nan) | 0x7c00;
  bits32<L> r = a < 0x38800000 ? subnormal : normal;
  r = a >= 0x47800000 ? special : r;
  return r | sign;
}

template <class T, class S>
KONV_INLINE void store_as(S* p, vec<T> v) {
  constexpr int L = lanes_of<T>;
  if constexpr (__is_same(S, Brain)) {
    const bits32<L> f = (bits32<L>)v, rounded = f + 0x7fff + (f >> 16 & 1);
    const bits32<L> quiet = f | 0x400000;  // rounding could turn a NaN into infinity
    store_narrow<L>(p, ((f & 0x7fffffff) > 0x7f800000 ? quiet : rounded) >> 16);
  } else if constexpr (__is_same(S, Half)) {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    store_narrow<L>(p, float_to_half<L>((bits32<L>)v));
#endif
  } else if constexpr (__is_same(S, T)) {
    store<T>(p, v);
  } else {
    const auto narrow = __builtin_convertvector(v, typename vec_type<S, L>::type);
    __builtin_memcpy(p, &narrow, sizeof narrow);
  }
}

// ---- rows ----------------------------------------------------------------------------------------------------------
// Element j of a row of stride S lies in lane (j*S) % L of vector (j*S) / L of the row. Vector i brings its lanes to
// what the vectors before it have brought; lanes that come later hold anything.
template <int L, int S, int I>
struct StrideLanes {
  static constexpr int at(int j) {
    if (j * S / L == I) return L + j * S % L;
    return I == 1 && j * S < L ? j * S : j;
  }
};

template <class T, class S, int Stride>
KONV_INLINE vec<T> load_strided(const S* p) {
  constexpr int L = lanes_of<T>;
  vec<T> v = load_as<T, S>(p);
  static_for<Stride - 1>([&](auto i) __attribute__((always_inline)) {
    v = shuffle<StrideLanes<L, Stride, i + 1>, T>(v, load_as<T, S>(p + (i + 1) * L));
  });
  return v;
}

// The vectors of a strided row end up to Stride - 1 elements past the last one that is kept: stop while the row goes
// on.
template <class T, class S, int Stride>
KONV_INLINE index load_strided_row(T* dst, const S* src, index count) {
  constexpr int L = lanes_of<T>;
  index j = 0;
  for (; j + L < count; j += L) store<T>(dst + j, load_strided<T, S, Stride>(src + j * Stride));
  return j;
}

template <class T, class S>
KONV_INLINE void load_row_inline(T* dst, const S* src, index stride, index count) {
  constexpr int L = lanes_of<T>;
  index j = 0;
  if (stride == 1) {
    for (; j + L <= count; j += L) store<T>(dst + j, load_as<T, S>(src + j));
    if constexpr (__is_same(S, T)) {
      if (j < count)
        store_first<T>(dst + j, load_first<T>(src + j, static_cast<int>(count - j)), static_cast<int>(count - j));
      return;
    }
  } else if (stride == 2) {
    j = load_strided_row<T, S, 2>(dst, src, count);
  } else if (stride == 3 && L >= 4) {
    j = load_strided_row<T, S, 3>(dst, src, count);
  } else if (stride == 4 && L >= 4) {
    j = load_strided_row<T, S, 4>(dst, src, count);
  }
  for (; j < count; j += L) {
    const int n = static_cast<int>(count - j < L ? count - j : L);
    S gathered[L] = {};
    for (int i = 0; i < n; i++) gathered[i] = src[(j + i) * stride];
    store_first<T>(dst + j, load_as<T, S>(gathered), n);
  }
}

#if defined(__AVX512F__)
// Lane 2i is lane From + i.
template <int From>
struct Spread {
  static constexpr int at(int i) { return From + i / 2; }
};
// The first n even lanes.
template <class T>
KONV_INLINE void store_every_2nd(T* p, vec<T> v, int n) {
  const unsigned mask = 0x5555u & ((1u << 2 * n) - 1);
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v);
  else _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v);
}
#endif

template <class T, class S>
KONV_INLINE void store_row_inline(S* dst, index stride, const T* src, index count) {
  constexpr int L = lanes_of<T>;
  index j = 0;
  if (stride == 1) {
    for (; j + L <= count; j += L) store_as<T, S>(dst + j, load<T>(src + j));
    if constexpr (__is_same(S, T)) {
      if (j < count)
        store_first<T>(dst + j, load_first<T>(src + j, static_cast<int>(count - j)), static_cast<int>(count - j));
      return;
    }
  }
#if defined(__AVX512F__)
  if constexpr (__is_same(S, T) && (sizeof(T) == 4 || __is_same(T, double))) {
    if (stride == 2) {  // every second cell of the image's gradient: masks keep the cells between
      for (; j < count; j += L) {
        const int n = static_cast<int>(count - j < L ? count - j : L);
        const vec<T> v = load_first<T>(src + j, n);
        store_every_2nd<T>(dst + 2 * j, shuffle<Spread<0>, T>(v, v), n < L / 2 ? n : L / 2);
        if (n > L / 2) store_every_2nd<T>(dst + 2 * j + L, shuffle<Spread<L / 2>, T>(v, v), n - L / 2);
      }
    }
  }
#endif
  for (; j < count; j += L) {
    const int n = static_cast<int>(count - j < L ? count - j : L);
    S converted[L];
    store_as<T, S>(converted, load_first<T>(src + j, n));
    for (int i = 0; i < n; i++) dst[(j + i) * stride] = converted[i];
  }
}

template <class T, class S>
void load_row(T* dst, const void* src, index stride, index count) {
  load_row_inline<T, S>(dst, static_cast<const S*>(src), stride, count);
}

template <class T, class S>
void store_row(void* dst, index stride, const T* src, index count) {
  store_row_inline<T, S>(static_cast<S*>(dst), stride, src, count);
}

template <class T>
KONV_INLINE void zero(T* dst, index count) {
  constexpr int L = lanes_of<T>;
  index j = 0;
  for (; j + L <= count; j += L) store<T>(dst + j, vec<T>{});
  if (j < count) store_first<T>(dst + j, vec<T>{}, static_cast<int>(count - j));
}

template <class T, class S>
void load_block(const BlockLoad<T>& b) {
  const S* src = static_cast<const S*>(b.src);
  T* dst = b.dst;
  for (index r = 0; r < b.rows; r++, dst += b.pitch, src += b.src_pitch) {
    if (b.left) zero(dst, b.left);
    load_row_inline<T, S>(dst + b.left, src, b.stride, b.count);
    if (b.right) zero(dst + b.left + b.count, b.right);
  }
}

template <class T, class S>
void store_block(const BlockStore<T>& b) {
  S* dst = static_cast<S*>(b.dst);
  for (index r = 0; r < b.rows; r++)
    store_row_inline<T, S>(dst + r * b.dst_pitch, b.stride, b.src + r * b.pitch, b.count);
}

}  // namespace

// In the order of Scalar: f32, f64, f16, bf16, i8, i16, i32, i64, u8.
#define KONV_FLOATS(f) {f<float, float>, nullptr, f<float, Half>, f<float, Brain>}
#define KONV_DOUBLES(f) {nullptr, f<double, double>}
// clang-format off
#define KONV_INTEGERS(f) {nullptr, nullptr, nullptr, nullptr, f<index, std::int8_t>, f<index, std::int16_t>, \
                          f<index, std::int32_t>, f<index, index>, f<index, std::uint8_t>}
// clang-format on
#define KONV_ROWS(types) {types(load_row), types(store_row), types(load_block), types(store_block)}

extern constinit const Family<RowTable> rows = {KONV_ROWS(KONV_FLOATS), KONV_ROWS(KONV_DOUBLES),
                                                KONV_ROWS(KONV_INTEGERS)};

}  // namespace konv::KONV_ISA
