// What one instruction set offers: tables of functions, one table a family of kernels, one IsaTable for all of them.
//
// Each cpp/isa/<family>.cpp is compiled once per instruction set into its own namespace (konv::baseline, konv::avx2,
// konv::avx512, konv::neon) and defines that family's tables there; table.cpp, compiled the same way, gathers them.
// Drivers (cpp/conv, cpp/layers) are compiled once, for the baseline, and reach vectors only through these tables.
#pragma once
#include "../geometry.hpp"
#include "depthwise_table.hpp"
#include "grad_weight_table.hpp"
#include "layers_table.hpp"
#include "tiles_table.hpp"
#include "winograd_table.hpp"

namespace konv {

struct IsaTable {
  const char* name;  // "baseline", "avx2", "avx512", "neon"

  RowTable<float> rows_f32;
  RowTable<double> rows_f64;
  RowTable<index> rows_i64;
  TileTable<float> tiles_f32;
  TileTable<double> tiles_f64;
  TileTable<index> tiles_i64;
  WinogradTable<float> winograd_f32;
  WinogradTable<double> winograd_f64;
  DepthwiseTable<float> depthwise_f32;
  DepthwiseTable<double> depthwise_f64;
  GradWeightTable<float> grad_weight_f32;
  GradWeightTable<double> grad_weight_f64;
  LayerTable layers;

  template <class T>
  const RowTable<T>& rows() const {
    if constexpr (sizeof(T) == 4) return rows_f32;
    else if constexpr (static_cast<T>(0.5) != T(0)) return rows_f64;
    else return rows_i64;
  }
  template <class T>
  const TileTable<T>& tiles() const {
    if constexpr (sizeof(T) == 4) return tiles_f32;
    else if constexpr (static_cast<T>(0.5) != T(0)) return tiles_f64;
    else return tiles_i64;
  }
  template <class T>
  const WinogradTable<T>& winograd() const {
    if constexpr (sizeof(T) == 4) return winograd_f32;
    else return winograd_f64;
  }
  template <class T>
  const DepthwiseTable<T>& depthwise() const {
    if constexpr (sizeof(T) == 4) return depthwise_f32;
    else return depthwise_f64;
  }
  template <class T>
  const GradWeightTable<T>& grad_weight() const {
    if constexpr (sizeof(T) == 4) return grad_weight_f32;
    else return grad_weight_f64;
  }
};

}  // namespace konv
