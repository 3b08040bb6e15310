// Rows of pooling, normalisation and relu: one pass over a row, a vector at a time, everything in registers.
//
// These layers are bound by memory, so the kernels are plain. Each is written once as the body for W neighbouring
// lanes; a row is walked with whole vectors, the last one over lanes that are done: nothing past its end is touched.
// Sums are four chains of vectors: they hide the adder's latency, and errors grow with n/(4*lanes) instead of with n.
// Maxima follow PyTorch's rule, "v > best, or v is NaN"; ranks are told of in layers/pool.cpp.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

// f(j, W) for W neighbouring lanes from j on, until n lanes are done; the last ones may be done twice.
template <class T, int W = lanes_of<T>, class F> KONV_INLINE void for_lanes(index n, F&& f) {
  if (n >= W) {
    index j = 0;
    for (; j + W <= n; j += W) f(j, constant<W>{});
    if (j < n) f(n - W, constant<W>{});
  } else if constexpr (W > 1) {
    for_lanes<T, W / 2>(n, f);
  }
}

template <class T, bool Max> void reduce_taps(T* out, const T* taps, index step, index k, index n) {
  for_lanes<T>(n, [&](index j, auto w) KONV_INLINED {
    vec<T, w> found = load<T, w>(taps + j);
    for (index t = 1; t < k; t++) {
      const vec<T, w> v = load<T, w>(taps + t * step + j);
      if constexpr (Max) found = (v > found) | (v != v) ? v : found;
      else found += v;
    }
    store<T, w>(out + j, found);
  });
}

// Down, taps come in scanning order and PyTorch's rule is applied as it stands. Across, where v < best is false v is
// equal, or one of them is NaN; the ranks of NaNs are below all others.
template <class T, bool Down>
void max_ranks(T* out, Rank<T>* rank, const T* taps, const Rank<T>* ranks, index step, index width, index k, index n) {
  using R = Rank<T>;
  for_lanes<T>(n, [&](index j, auto w) KONV_INLINED {
    vec<T, w> best = load<T, w>(taps + j);
    vec<R, w> at{}, lane{};
    for (int l = 0; l < w; l++) lane[l] = l;
    if constexpr (!Down) at = load<R, w>(ranks + j);
    for (index t = 1; t < k; t++) {
      const vec<T, w> v = load<T, w>(taps + t * step + j);
      const vec<R, w> here = Down ? splat<R, w>(static_cast<R>(t * width)) : load<R, w>(ranks + t * step + j);
      const auto chosen = (v > best) | (Down ? v != v : ~(v < best) & (here < at));
      best = chosen ? v : best;
      at = chosen ? here : at;
    }
    if constexpr (Down) at += splat<R, w>(static_cast<R>(j)) + lane, at = best != best ? ~at : at;
    store<T, w>(out + j, best);
    store<R, w>(rank + j, at);
  });
}

template <class T> void cells(index* cell, const Rank<T>* rank, index first, index n) {
  for_lanes<index>(n, [&](index j, auto w) KONV_INLINED {
    vec<index, w> at = __builtin_convertvector(load<Rank<T>, w>(rank + j), vec<index, w>);
    at = at < 0 ? ~at : at;
    store<index, w>(cell + j, at < splat<index, w>(no_cell<T>) ? at + splat<index, w>(first) : splat<index, w>(-1));
  });
}

// The least integer over -1 wraps, as in NumPy; the instruction would trap.
template <class T> void divide(T* y, const T* x, T rows, const T* columns, index n) {
  for_lanes<T>(n, [&](index j, auto w) {
    const vec<T, w> v = load<T, w>(x + j), by = splat<T, w>(rows) * load<T, w>(columns + j);
    store<T, w>(y + j, by == -1 ? -v : v / (by == -1 ? -by : by));
  });
}

// ---- sums -----------------------------------------------------------------------------------------------------------
// term(j, W, s) adds elements j .. j+W of a row to the partial sums s[0..Sums); out[i] is the total of sum i.
template <class T, int Sums, class F> KONV_INLINE void total(index n, double* out, F&& term) {
  constexpr int L = lanes_of<T>;
  vec<T, L> chains[4][Sums] = {};
  T rest[Sums] = {};
  index j = 0;
  for (; j + 4 * L <= n; j += 4 * L) KONV_UNROLL for (int i = 0; i < 4; i++) term(j + i * L, constant<L>{}, chains[i]);
  for (; j + L <= n; j += L) term(j, constant<L>{}, chains[0]);
  for (; j < n; j++) {
    vec<T, 1> s[Sums] = {};
    term(j, constant<1>{}, s);
    for (int i = 0; i < Sums; i++) rest[i] += s[i][0];
  }
  for (int i = 0; i < Sums; i++) {
    const vec<T, L> sum = (chains[0][i] + chains[1][i]) + (chains[2][i] + chains[3][i]);
    double lane[L];
    for (int l = 0; l < L; l++) lane[l] = static_cast<double>(sum[l]);
    KONV_UNROLL for (int half = L / 2; half; half /= 2) for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    out[i] = lane[0] + static_cast<double>(rest[i]);
  }
}

// In double: it is read from memory slower than it is added.
template <class T> void sum(const T* x, index n, double* out) {
  total<double, 1>(
      n, out, [&](index j, auto w, auto* s) { s[0] += __builtin_convertvector(load<T, w>(x + j), vec<double, w>); });
}

// Two passes, the first of which brings the row into L1. What the rounding of the center leaves, sum (x - center), then
// corrects the second (T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", 1983, eq. 1.7).
template <class T> void moments(const T* x, index n, double* sums) {
  const double count = static_cast<double>(n);
  sum(x, n, sums);
  const T center = static_cast<T>(sums[0] / count);
  const double left = sums[0] - static_cast<double>(center) * count;
  total<T, 1>(n, sums + 1, [&](index j, auto w, auto* s) {
    const vec<T, w> d = load<T, w>(x + j) - splat<T, w>(center);
    s[0] += d * d;
  });
  sums[1] -= left * left / count;
}

template <class T> void products(const T* g, const T* x, T center, index n, double* sums) {
  total<T, 2>(n, sums, [&](index j, auto w, auto* s) {
    const vec<T, w> v = load<T, w>(g + j);
    s[0] += v;
    s[1] += v * (load<T, w>(x + j) - splat<T, w>(center));
  });
}

template <class T> void affine(T* y, const T* x, T center, T scale, T shift, index n) {
  for_lanes<T>(n, [&](index j, auto w) {
    store<T, w>(y + j, (load<T, w>(x + j) - splat<T, w>(center)) * splat<T, w>(scale) + splat<T, w>(shift));
  });
}

template <class T> void combine(T* y, const T* g, const T* x, T a, T b, T center, T c, index n) {
  for_lanes<T>(n, [&](index j, auto w) {
    const vec<T, w> d = load<T, w>(x + j) - splat<T, w>(center);
    store<T, w>(y + j, load<T, w>(g + j) * splat<T, w>(a) + (d * splat<T, w>(b) + splat<T, w>(c)));
  });
}

template <class T> void relu(T* y, const T* g, const T* x, index n) {
  for_lanes<T>(n, [&](index j, auto w) {
    const vec<T, w> zero{};
    store<T, w>(y + j, load<T, w>(x + j) <= zero ? zero : load<T, w>(g + j));
  });
}

template <class T> constexpr LayerKernels<T> kernels() {
  LayerKernels<T> k{
      reduce_taps<T, false>, reduce_taps<T, true>, max_ranks<T, true>, max_ranks<T, false>, cells<T>, divide<T>};
  if constexpr (!std::is_integral_v<T>)
    k.sum = sum<T>, k.moments = moments<T>, k.products = products<T>, k.affine = affine<T>, k.combine = combine<T>,
    k.relu = relu<T>;
  return k;
}
}  // namespace

extern constinit const Family<LayerKernels> layers = {kernels<float>(), kernels<double>(), kernels<index>()};
}  // namespace konv::KONV_ISA
