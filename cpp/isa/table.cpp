// The one table that drivers see: every family of kernels of this instruction set.
//
// A function, not a global: copying the families' tables runs code of this instruction set, which must not happen on a
// CPU that lacks it.
#include "table.hpp"

#include "simd.hpp"

namespace konv::KONV_ISA {

extern const RowTable<float> rows_f32;
extern const RowTable<double> rows_f64;
extern const RowTable<index> rows_i64;
extern const TileTable<float> tiles_f32;
extern const TileTable<double> tiles_f64;
extern const TileTable<index> tiles_i64;
extern const WinogradTable<float> winograd_f32;
extern const WinogradTable<double> winograd_f64;
extern const DepthwiseTable<float> depthwise_f32;
extern const DepthwiseTable<double> depthwise_f64;
extern const GradWeightTable<float> grad_weight_f32;
extern const GradWeightTable<double> grad_weight_f64;
extern const LayerTable layers;

#define KONV_TEXT_(x) #x
#define KONV_TEXT(x) KONV_TEXT_(x)

const IsaTable& table() {
  static const IsaTable all = {KONV_TEXT(KONV_ISA), rows_f32,        rows_f64,        rows_i64,     tiles_f32,
                               tiles_f64,           tiles_i64,       winograd_f32,    winograd_f64, depthwise_f32,
                               depthwise_f64,       grad_weight_f32, grad_weight_f64, layers};
  return all;
}

}  // namespace konv::KONV_ISA
