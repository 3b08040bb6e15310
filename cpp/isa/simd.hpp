// Vectors of T on GNU vector extensions: one source at 4, 8 and 16 float lanes.
//
// Included only by files that are compiled once per instruction set, inside namespace konv::KONV_ISA. Nothing from the
// standard library may be inlined here (types may): the linker keeps one copy of it, which could be the AVX-512 one.
#pragma once
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "../geometry.hpp"

#ifndef KONV_ISA
#error "compile with -DKONV_ISA=baseline|avx2|avx512|neon"
#endif

#define KONV_INLINE inline __attribute__((always_inline))
#define KONV_INLINED __attribute__((always_inline))  // after a lambda's parameters
#define KONV_UNROLL _Pragma("GCC unroll 64")
#ifndef KONV_UNROLL_4  // see CMakeLists.txt
// Sums over k. Where a core is shared with other work, time goes with instructions: this saves up to 20 % of it.
#define KONV_UNROLL_4 _Pragma("GCC unroll 4")
#endif

namespace konv::KONV_ISA {

#if defined(__AVX512F__) || defined(KONV_WIDE)  // KONV_WIDE: the unit tests, on CPUs that have no such vectors
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
#if defined(__AVX512F__) || defined(__aarch64__) || defined(KONV_WIDE)
constexpr int registers = 32;
#else
constexpr int registers = 16;
#endif

template <class T> constexpr int lanes_of = vector_bytes / static_cast<int>(sizeof(T));

template <class T, int L> struct vec_type {
  typedef T type __attribute__((vector_size(L * sizeof(T))));
  typedef T unaligned __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T, int L = lanes_of<T>> using vec = typename vec_type<T, L>::type;

template <class T, int L = lanes_of<T>> KONV_INLINE vec<T, L> load(const T* p) {
  return *reinterpret_cast<const typename vec_type<T, L>::unaligned*>(p);
}
template <class T, int L = lanes_of<T>> KONV_INLINE void store(T* p, vec<T, L> v) {
  *reinterpret_cast<typename vec_type<T, L>::unaligned*>(p) = v;
}
template <class T, int L = lanes_of<T>> KONV_INLINE vec<T, L> splat(T s) { return s - vec<T, L>{}; }

// The first n lanes (0 <= n <= L), the rest zero; memory past them is not touched.
template <class T, int L = lanes_of<T>> KONV_INLINE vec<T, L> load_first(const T* p, int n) {
#if defined(__AVX512F__)
  if constexpr (L * sizeof(T) == 64 && sizeof(T) == 4)
    return (vec<T, L>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  if constexpr (L * sizeof(T) == 32 && sizeof(T) == 4)
    return (vec<T, L>)_mm256_maskload_ps(
        p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
#endif
  vec<T, L> v{};
  __builtin_memcpy(&v, p, sizeof(T) * static_cast<unsigned>(n));
  return v;
}
template <class T, int L = lanes_of<T>> KONV_INLINE void store_first(T* p, vec<T, L> v, int n) {
#if defined(__AVX512F__)
  if constexpr (L * sizeof(T) == 64 && sizeof(T) == 4)
    return _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#endif
  // By halves: AVX2's masked stores took more than half of a depthwise tile of 7 columns (Zen 3).
  if constexpr (L == 1) {
    if (n > 0) *p = v[0];
  } else {
    vec<T, L / 2> half[2];
    __builtin_memcpy(half, &v, sizeof v);
    if (n < L / 2) return store_first<T, L / 2>(p, half[0], n);
    store<T, L / 2>(p, half[0]);
    store_first<T, L / 2>(p + L / 2, half[1], n - L / 2);
  }
}

// Of what is left, as much as a tile takes; the last two share evenly: 15 columns run as 8 + 7, not as 14 + 1.
constexpr index next_group(index left, index most) {
  return left <= most ? left : left < 2 * most ? (left + 1) / 2 : most;
}

// ---- compile-time loops and shuffles -------------------------------------------------------------------------------
template <int V> struct constant {
  static constexpr int value = V;
  constexpr operator int() const { return V; }
};
template <int... I> using sequence = std::integer_sequence<int, I...>;
template <int N> using make_sequence = std::make_integer_sequence<int, N>;

// f(constant<0>), ..., f(constant<N-1>)
template <int N, class F> KONV_INLINE constexpr void static_for(F&& f) {
  [&]<int... I>(sequence<I...>) KONV_INLINED { (f(constant<I>{}), ...); }(make_sequence<N>{});
}

// Lane i of the result is lane Map::at(i) of the 2L lanes of (a, b).
template <class Map, class T, int L = lanes_of<T>> KONV_INLINE vec<T, L> shuffle(vec<T, L> a, vec<T, L> b) {
  return [&]<int... I>(sequence<I...>)
             KONV_INLINED { return __builtin_shufflevector(a, b, Map::at(I)...); }(make_sequence<L>{});
}

// In-register transpose of L x L blocks: log2(L) rounds, each swaps the off-diagonal sub-blocks of size D. Vectors of
// several times Rows lanes hold so many blocks, of Rows x Rows each.
template <int L, int D, bool high> struct Transposed {
  static constexpr int at(int i) { return bool(i & D) == high ? i + high * L : (i ^ D) + !high * L; }
};
template <class T, int L = lanes_of<T>, int Rows = L, int D = 1> KONV_INLINE void transpose(vec<T, L>* r) {
  if constexpr (D < Rows) {
    KONV_UNROLL for (int i = 0; i < Rows; i++) {
      if (i & D) continue;
      const vec<T, L> a = r[i], b = r[i | D];
      r[i] = shuffle<Transposed<L, D, false>, T, L>(a, b);
      r[i | D] = shuffle<Transposed<L, D, true>, T, L>(a, b);
    }
    transpose<T, L, Rows, D * 2>(r);
  }
}
}  // namespace konv::KONV_ISA
