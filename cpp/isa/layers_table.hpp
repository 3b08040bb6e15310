// Kernels of the layers around a convolution: pooling, normalisation, relu. All work on rows of the compute type T;
// drivers (cpp/layers) bring rows in and out of memory.
#pragma once
#include "../geometry.hpp"

namespace konv {

// Where in a window a maximum was found: as wide as T, so that one mask chooses both.
template <class T>
struct KeyOf {
  using type = index;
};
template <>
struct KeyOf<float> {
  using type = std::int32_t;
};
template <class T>
using Key = typename KeyOf<T>::type;

// Keys at and above this are no cell of the image: padding. Drivers refuse windows whose own keys would reach it.
template <class T>
constexpr Key<T> no_cell = Key<T>{1} << (sizeof(Key<T>) * 8 - 2);

template <class T>
struct LayerKernels {
  // ---- pooling: output j of n reads taps[0][j] ... taps[k-1][j]
  void (*sum_taps)(T* out, const T* const* taps, index k, index n);
  void (*max_taps)(T* out, const T* const* taps, index k, index n);  // NaN wins
  // key[j] = keys[t][j] + step[t] of the chosen tap: the first of the largest, the last NaN.
  void (*max_taps_key)(T* out, Key<T>* key, const T* const* taps, const Key<T>* const* keys, const Key<T>* step,
                       index k, index n);
  void (*cells)(index* cell, const Key<T>* key, index base, index n);   // base + key, or -1
  void (*divide)(T* y, const T* x, T rows, const T* columns, index n);  // x / (rows*columns)
  // ---- normalisation (floating types); n is a few thousand, so that sums stay exact enough and x stays in L1
  void (*sum)(const T* x, index n, double* sum);
  void (*moments)(const T* x, index n, double* mean, double* m2);                             // m2 = sum (x - mean)^2
  void (*products)(const T* g, const T* x, T center, index n, double* sum, double* product);  // sum g, sum g*(x-center)
  void (*affine)(T* y, const T* x, T center, T scale, T shift, index n);            // (x - center)*scale + shift
  void (*combine)(T* y, const T* g, const T* x, T a, T b, T center, T c, index n);  // a*g + b*(x - center) + c
  // ---- relu; NaN stays NaN
  void (*relu)(T* y, const T* x, index n);
  void (*relu_gradient)(T* gx, const T* g, const T* y, index n);  // 0 where y <= 0
};

}  // namespace konv
