// Rows of numbers between memory and the type that kernels compute in.
//   memory   f16  . . f16  . . f16  . .      any storage type, any stride (negative and zero too)
//   kernels  f32 f32 f32 ...                 float, double or index; contiguous
// Contiguous rows are converted a vector at a time; of every second, third or fourth element, that many vectors are
// loaded and their lanes brought together; everything else goes element by element. Nothing outside the row is touched.
// float16 and bfloat16 round to nearest, ties to even, and keep NaN: F16C and AVX-512 have instructions for float16;
// the rest is done on the bits (F. Giesen, "float->half variants", 2012). Integers wrap.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

struct Half { std::uint16_t bits; };
struct Brain { std::uint16_t bits; };  // bfloat16: the upper half of a float
struct BrainPair : Brain {};           // two of them in the place of a float, from two places in memory

// The place of the first, and how much further the other one lies.
struct Two {
  const std::uint16_t* p;
  index apart;
  KONV_INLINE Two operator+(index j) const { return {p + j, apart}; }
};
template <class S, class T> KONV_INLINE auto source(const BlockLoad<T>& b) {
  if constexpr (__is_same(S, BrainPair)) return Two{static_cast<const std::uint16_t*>(b.src), b.src_distance / 2};
  else return static_cast<const S*>(b.src);
}
KONV_INLINE void fetch(const void* p) { __builtin_prefetch(p); }
KONV_INLINE void fetch(Two s) { fetch(s.p), fetch(s.p + s.apart); }

template <int L> using bits32 = vec<std::uint32_t, L>;

// ---- one vector from memory: the storage type S decides ------------------------------------------------------------
template <class T, class S, int L = lanes_of<T>, class Source> KONV_INLINE vec<T, L> load_as(Source p) {
  if constexpr (__is_same(S, T)) {
    return load<T, L>(p);
  } else if constexpr (__is_same(S, Brain)) {
    return (vec<T, L>)(load_as<std::uint32_t, std::uint16_t, L>(&p->bits) << 16);
  } else if constexpr (__is_same(S, BrainPair)) {
    const auto bits = [](auto at) KONV_INLINED { return load_as<std::uint32_t, std::uint16_t, L>(at); };
    return (vec<T, L>)(bits(p.p) | bits(p.p + p.apart) << 16);
  } else if constexpr (__is_same(S, Half)) {
#if defined(__AVX512F__)
    if constexpr (L == 16)
      return (vec<T, L>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
#if defined(__F16C__)
    if constexpr (L == 8) return (vec<T, L>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    if constexpr (L == 1) return vec<T, L>{_cvtsh_ss(p->bits)};
#endif
    const bits32<L> h = load_as<std::uint32_t, std::uint16_t, L>(&p->bits), magnitude = h & 0x7fff;
    // Exponent and fraction as a float that is 2^112 too small; the product is exact, subnormals included.
    const vec<T, L> value = (vec<T, L>)(magnitude << 13) * splat<T, L>(0x1p112f);
    const bits32<L> special = (bits32<L>)(magnitude > 0x7bff) & 0x7f800000;  // infinity and NaN
    return (vec<T, L>)((bits32<L>)value | special | (h & 0x8000) << 16);
  } else {
    typename vec_type<S, L>::type v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vec<T, L>);
  }
}

// ---- one vector to memory ------------------------------------------------------------------------------------------
template <int L> KONV_INLINE bits32<L> float_to_half(bits32<L> f) {
  const bits32<L> sign = f >> 16 & 0x8000, a = f & 0x7fffffff;
  // Normal: move the exponent's bias and round at bit 13. Subnormal: adding 0.5 makes the FPU round at the right bit.
  const bits32<L> normal = (a + 0xc8000fff + (a >> 13 & 1)) >> 13;
  const bits32<L> half_one = bits32<L>{} + 0x3f000000;
  const bits32<L> subnormal = (bits32<L>)((vec<float, L>)a + (vec<float, L>)half_one) - half_one;
  const bits32<L> nan = (bits32<L>)(a > 0x7f800000);
  const bits32<L> special = ((0x200 | (a >> 13 & 0x3ff)) & nan) | 0x7c00;
  bits32<L> r = a < 0x38800000 ? subnormal : normal;
  r = a >= 0x47800000 ? special : r;
  return r | sign;
}

// Whole numbers, up to 2^24 (float) or 2^51 (double), as integers of which the low half is right at least.
template <class T, int L> KONV_INLINE auto integers(vec<T, L> v) {
  if constexpr (__is_same(T, float)) return __builtin_convertvector(v, vec<std::int32_t, L>);
  else if constexpr (__is_same(T, double)) return (vec<index, L>)(v + splat<T, L>(0x1.8p52));  // the last bit is one's
  else return v;
}

template <class T, class S, int L = lanes_of<T>> KONV_INLINE void store_as(S* p, vec<T, L> v) {
  if constexpr (__is_same(S, T)) {
    store<T, L>(p, v);
  } else if constexpr (__is_same(S, Brain)) {
    const bits32<L> f = (bits32<L>)v, rounded = f + 0x7fff + (f >> 16 & 1);
    const bits32<L> quiet = f | 0x400000;  // rounding could turn a NaN into infinity
    store_as<std::uint32_t, std::uint16_t, L>(&p->bits, ((f & 0x7fffffff) > 0x7f800000 ? quiet : rounded) >> 16);
  } else if constexpr (__is_same(S, Half)) {
#if defined(__AVX512F__)
    if constexpr (L == 16)
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                                 _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__)
    if constexpr (L == 8)
      return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
    if constexpr (L == 1) return void(p->bits = _cvtss_sh(v[0], _MM_FROUND_TO_NEAREST_INT));
#endif
    store_as<std::uint32_t, std::uint16_t, L>(&p->bits, float_to_half<L>((bits32<L>)v));
  } else {
    const auto narrow = __builtin_convertvector(integers<T, L>(v), typename vec_type<S, L>::type);
    __builtin_memcpy(p, &narrow, sizeof narrow);
  }
}

// ---- rows ----------------------------------------------------------------------------------------------------------
// f(w, j, last) for each vector of w lanes in a row of `count`: whole ones, or halves where the row is shorter. The
// last one ends where the row does, over a part of the one before. False where `count` - `Spare` is less than a half:
// Spare 1 leaves a cell before the last vector, from which it may load.
template <class T, int Spare = 0, class F> KONV_INLINE bool in_vectors(index count, F&& f) {
  constexpr int L = lanes_of<T>, half = L * sizeof(T) > 16 ? L / 2 : L;
  const auto all = [&](auto w) KONV_INLINED {
    for (index j = 0; j + w < count; j += w) f(w, j, constant<0>{});
    f(w, count - w, constant<1>{});
  };
  if (count - Spare >= L) all(constant<L>{});
  else if (count - Spare >= half) all(constant<half>{});
  return count - Spare >= half;
}

// Of W elements that lie `Stride` apart, the j-th is lane q % W of vector q / W, q = j*Stride + From. Vector i brings
// its lanes to what the vectors before it have brought; lanes that come later hold anything.
template <int W, int Stride, int From, int I> struct StrideLanes {
  static constexpr int at(int j) {
    const int q = j * Stride + From;
    if (q / W == I) return W + q % W;
    return I == 1 && q < W ? q : j;
  }
};
template <class T, class S, int W, int Stride, int From, class Source> KONV_INLINE vec<T, W> load_strided(Source p) {
  vec<T, W> v = load_as<T, S, W>(p);
  static_for<Stride - 1>([&](auto i) KONV_INLINED {
    v = shuffle<StrideLanes<W, Stride, From, i + 1>, T, W>(v, load_as<T, S, W>(p + (i + 1) * W));
  });
  return v;
}

// Stride 0: any other. Vectors reach Stride - 1 elements past the last that they keep; the last of a row, before it.
template <class T, class S, int Stride, class Source>
KONV_INLINE void load_row(T* dst, Source src, index stride, index count) {
  if constexpr (Stride > 0) {
    const auto load = [&](auto w, index j, auto last) KONV_INLINED {
      constexpr int from = last * (Stride - 1);
      store<T, w>(dst + j, load_strided<T, S, w, Stride, from>(src + (j * Stride - from)));
    };
    if (in_vectors<T, (Stride > 1)>(count, load)) return;
  }
  for (index j = 0; j < count; j++) store<T, 1>(dst + j, load_as<T, S, 1>(src + j * stride));
}

// even[j] is element 2j of `count`, odd[j] element 2j + 1.
template <class T, class S, class Source>
KONV_INLINE void load_split(T* even, T* odd, Source src, index stride, index count) {
  const auto load = [&](auto w, index j, auto) KONV_INLINED {
    const vec<T, w> u = load_as<T, S, w>(src + 2 * j), v = load_as<T, S, w>(src + 2 * j + w);
    store<T, w>(even + j, shuffle<StrideLanes<w, 2, 0, 1>, T, w>(u, v));
    store<T, w>(odd + j, shuffle<StrideLanes<w, 2, 1, 1>, T, w>(u, v));
  };
  index j = 0;
  if (stride == 1 && in_vectors<T>(count / 2, load)) j = count / 2 * 2;
  _Pragma("GCC unroll 1") for (; j < count; j++)
      store<T, 1>((j % 2 ? odd : even) + j / 2, load_as<T, S, 1>(src + j * stride));
}

// Half a vector of W lanes (I: which half) on every second lane from From on, between those of another vector.
template <int W, int From, int I> struct SpreadLanes {
  static constexpr int at(int i) { return i % 2 == From ? I * W / 2 + i / 2 : W + i; }
};

template <class T, class S> KONV_INLINE void store_row(S* dst, index stride, const T* src, index count) {
  const auto put = [&](auto w, index j, auto) KONV_INLINED { store_as<T, S, w>(dst + j, load<T, w>(src + j)); };
  if (stride == 1 && in_vectors<T>(count, put)) return;
  // Every second cell: those between are written back as they are, and no other thread may write them meanwhile.
  if constexpr (__is_same(S, T)) {
    const auto spread = [&](auto w, index j, auto last) KONV_INLINED {
      S* to = dst + 2 * j - last;
      const vec<T, w> v = load<T, w>(src + j), a = load<T, w>(to), b = load<T, w>(to + w);
      store<T, w>(to, shuffle<SpreadLanes<w, last, 0>, T, w>(v, a));
      store<T, w>(to + w, shuffle<SpreadLanes<w, last, 1>, T, w>(v, b));
    };
    if (stride == 2 && in_vectors<T, 1>(count, spread)) return;
  }
  for (index j = 0; j < count; j++) store_as<T, S, 1>(dst + j * stride, load<T, 1>(src + j));
}

// Zeros in cells [0, from) and [to, total) of a row whose other cells are written next: whole vectors reach over them.
template <class T> KONV_INLINE void zero_margins(T* row, index from, index to, index total) {
  constexpr int L = lanes_of<T>;
  const auto zero = [&](index j, index end) KONV_INLINED {
    if (total < L)
      for (; j < end; j++) store<T, 1>(row + j, vec<T, 1>{});
    for (; j < end; j += L) store<T>(row + (j < total - L ? j : total - L), vec<T>{});
  };
  zero(0, from);
  zero(to, total);
}

// Split: the even cells of a row in one place, the odd ones in another.
template <class T, class S, int Stride, bool Split> void load_rows(const BlockLoad<T> b) {
  const index last = b.left + b.count, total = last + b.right;
  const auto margins = [&](T* row, index from, index to) KONV_INLINED {
    if constexpr (!Split) return zero_margins(row, from, to, total);
    zero_margins(row, (from + 1) / 2, (to + 1) / 2, (total + 1) / 2);
    zero_margins(row + b.half, from / 2, to / 2, total / 2);
  };
  for (index block = 0; block < b.blocks; block++) {
    T* row = b.dst + block * b.distance;
    auto src = source<S>(b) + block * b.src_distance;
    constexpr index line = 64 / index{sizeof(S)};
    const bool ahead = block + 2 < b.blocks && b.src_distance * sizeof(S) >= page_bytes;
    for (index r = 0; r < b.top + b.rows + b.bottom; r++, row += b.pitch) {
      if (r < b.top || r >= b.top + b.rows) {
        margins(row, total, total);
        continue;
      }
      margins(row, b.left, last);
      for (index q = 0; ahead && q < b.count * b.stride; q += b.stride < line ? line : b.stride)
        fetch(src + 2 * b.src_distance + q);
      if constexpr (Split) {
        const index swap = b.left % 2;  // the image's first column is an odd cell of the frame
        T* even = row + b.left / 2 + swap * b.half;
        T* odd = row + (b.left + 1) / 2 + (1 - swap) * b.half;
        load_split<T, S>(even, odd, src, b.stride, b.count);
      } else {
        load_row<T, S, Stride>(row + b.left, src, b.stride, b.count);
      }
      src = src + b.src_pitch;
    }
  }
}

template <class T, class S> void load_block(BlockLoad<T> b) {
  const bool framed = b.top || b.bottom || b.left || b.right || b.half;
  if (!framed && b.pitch == b.count && b.src_pitch == b.count * b.stride) b.count *= b.rows, b.rows = 1;  // no gaps
  if (b.half) return load_rows<T, S, 0, true>(b);
  static_for<5>([&](auto stride) {
    if (b.stride == stride || (stride == 0 && (b.stride < 0 || b.stride > 4))) load_rows<T, S, stride, false>(b);
  });
}

template <class T, class S> void store_block(BlockStore<T> b) {
  if (b.pitch == b.count && b.dst_pitch == b.count * b.stride) b.count *= b.rows, b.rows = 1;  // no gaps
  if constexpr (!__is_same(S, BrainPair))                                                      // which is only read
    for (index r = 0; r < b.rows; r++)
      store_row<T, S>(static_cast<S*>(b.dst) + r * b.dst_pitch, b.stride, b.src + r * b.pitch, b.count);
}
}  // namespace

// In the order of Scalar: f32, f64, f16, bf16, i8, i16, i32, i64, u8, bf16x2.
// clang-format off
#define KONV_FLOATS(f) {f<float, float>, nullptr, f<float, Half>, f<float, Brain>, f<float, std::int8_t>, nullptr, \
                        nullptr, nullptr, f<float, std::uint8_t>, f<float, BrainPair>}
#define KONV_DOUBLES(f) {nullptr, f<double, double>, nullptr, nullptr, f<double, std::int8_t>, \
                         f<double, std::int16_t>, nullptr, nullptr, f<double, std::uint8_t>}
#define KONV_INTS(f) {nullptr, nullptr, nullptr, nullptr, f<index, std::int8_t>, f<index, std::int16_t>, \
                      f<index, std::int32_t>, f<index, index>, f<index, std::uint8_t>}
// clang-format on
#define KONV_ROWS(types) {types(load_block), types(store_block)}

extern constinit const Family<RowTable> rows = {KONV_ROWS(KONV_FLOATS), KONV_ROWS(KONV_DOUBLES), KONV_ROWS(KONV_INTS)};
}  // namespace konv::KONV_ISA
