// Register tile of the weight's gradient, dW[o][c, tap] = sum over pixels of gy[o][pixel] * x[c][pixel moved by tap].
//
// Output channels stand in the lanes: gy arrives transposed, one vector pair a pixel, and the image is read as
// broadcast scalars at any address, so that strides and short rows cost nothing and no lane is lost at the end of a
// row:
//
//     for each pixel:          u = gyT[pixel][0 .. width)       2 loads
//       for each column t:     acc[t] += u * x[pixel + offset[t]]   1 broadcast, 2 multiply-adds
//
// 14 columns x 2 vectors = 28 accumulators of 32 registers (6 x 2 of 16). Narrow groups use one vector.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int most_columns = registers == 32 ? 14 : 6;

template <class T, int NV, int C>
__attribute__((noinline)) void tile(bool first, const GradWeightTile<T>& g) {
  constexpr int L = lanes_of<T>;
  vec<T> acc[C][NV];
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) acc[t][v] = first ? vec<T>{} : load<T>(g.d + (t * NV + v) * L);
  const T* u = g.u;
  for (index r = 0; r < g.rows; r++) {
    const T* x = g.x + g.row_offset[r];
    for (index j = 0; j < g.row_length; j++, u += NV * L, x += g.step) {
      vec<T> gy[NV];
      KONV_UNROLL for (int v = 0; v < NV; v++)
        gy[v] = load<T>(u + v * L);
      KONV_UNROLL for (int t = 0; t < C; t++) {
        const vec<T> b = splat<T>(x[g.column_offset[t]]);
        KONV_UNROLL for (int v = 0; v < NV; v++)
          acc[t][v] += gy[v] * b;
      }
    }
  }
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) store<T>(g.d + (t * NV + v) * L, acc[t][v]);
}

template <class T>
void any_tile(int vectors, index columns, bool first, const GradWeightTile<T>& g) {
  static_for<most_columns>([&](auto i) {
    if (columns == i + 1) vectors == 1 ? tile<T, 1, i + 1>(first, g) : tile<T, 2, i + 1>(first, g);
  });
}

template <class T>
double sum(const T* src, index count) {
  constexpr int L = lanes_of<double>;
  double total[4 * L] = {};
  index q = 0;
  for (; q + 4 * L <= count; q += 4 * L)
    for (int l = 0; l < 4 * L; l++) total[l] += static_cast<double>(src[q + l]);
  for (int l = 0; q < count; q++, l++) total[l] += static_cast<double>(src[q]);
  for (int n = 2 * L; n > 0; n /= 2)
    for (int l = 0; l < n; l++) total[l] += total[l + n];
  return total[0];
}

template <class T>
constexpr GradWeightTable<T> table_of() {
  return {lanes_of<T>, most_columns, any_tile<T>, sum<T>};
}

}  // namespace

extern constinit const Family<GradWeightTable> grad_weight = {table_of<float>(), table_of<double>()};

}  // namespace konv::KONV_ISA
