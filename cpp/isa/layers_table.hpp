// Kernels of the layers around a convolution: pooling, normalisation, relu. All work on rows of the compute type T;
// drivers (cpp/layers) bring rows in and out of memory.
#pragma once
#include "../geometry.hpp"

namespace konv {

// Which cell of a window is a maximum (layers/pool.cpp): as wide as T, so that one mask chooses both.
template <class T> using Rank = std::conditional_t<std::is_same_v<T, float>, std::int32_t, index>;

// Ranks at and above this are no cell of the image: padding. Drivers refuse windows whose own ranks would reach it.
template <class T> constexpr Rank<T> no_cell = Rank<T>{1} << (sizeof(Rank<T>) * 8 - 2);

template <class T> struct LayerKernels {
  // Nowhere may an output be an input, too.
  // ---- pooling: output j of n reads taps[j], taps[step + j], ... of k taps; NaN is the maximum
  void (*sum_taps)(T* out, const T* taps, index step, index k, index n);
  void (*max_taps)(T* out, const T* taps, index step, index k, index n);
  // Maxima with ranks: down, tap t of output j has rank t*width + j (scanning order); across, `ranks` tell.
  using MaxRanks = void(T* out, Rank<T>* rank, const T* taps, const Rank<T>* ranks, index step, index width, index k,
                        index n);
  MaxRanks *max_down, *max_across;
  void (*cells)(index* cell, const Rank<T>* rank, index first, index n);  // first + the rank's cell, or -1
  void (*divide)(T* y, const T* x, T rows, const T* columns, index n);    // x / (rows*columns)
  // ---- passes (floating types); n is a few thousand, so that sums stay exact enough and x stays in L1
  void (*sum)(const T* x, index n, double* sum);
  void (*moments)(const T* x, index n, double* sums);                               // of x, of (x - mean)^2
  void (*products)(const T* g, const T* x, T center, index n, double* sums);        // of g, of g*(x - center)
  void (*affine)(T* y, const T* x, T center, T scale, T shift, index n);            // (x - center)*scale + shift
  void (*combine)(T* y, const T* g, const T* x, T a, T b, T center, T c, index n);  // a*g + b*(x - center) + c
  void (*relu)(T* y, const T* g, const T* x, index n);                              // g, but 0 where x <= 0
};

}  // namespace konv
