// Pooling: the maximum or the average of windows of every channel, and the gradients.
#pragma once
#include "../isa/table.hpp"

namespace konv {

// The windows along one axis. Regular ones follow from kernel, stride, padding and dilation and are cut at the image's
// edge; adaptive ones are given: output i takes cells begin[i] .. end[i]-1, both ascending.
struct PoolAxis {
  index size, outputs;
  index kernel = 1, stride = 1, pad = 0, dilation = 1;
  const index* begin = nullptr;
  const index* end = nullptr;

  bool adaptive() const { return begin != nullptr; }
  index start(index i) const { return adaptive() ? begin[i] : i * stride - pad; }
  // Taps first <= t < last lie inside the image, at start + t*dilation.
  index first(index i) const { return start(i) < 0 ? ceil_div(-start(i), dilation) : 0; }
  index last(index i) const {
    if (adaptive()) return end[i] - begin[i];
    const index inside = start(i) < size ? ceil_div(size - start(i), dilation) : 0;
    return inside < kernel ? inside : kernel;
  }
  index taps(index i) const { return last(i) > first(i) ? last(i) - first(i) : 0; }
  // What an average divides by; padding after the image counts only as far as it was asked for, not to the window's
  // end.
  index count(index i, bool with_pad) const {
    if (adaptive() || !with_pad) return taps(i);
    const index end = start(i) + kernel < size + pad ? start(i) + kernel : size + pad;
    return end - start(i);
  }
};

struct Pooling {
  index n, c;
  PoolAxis rows, columns;
  bool count_pad = true;  // averages
  index divisor = 0;      // averages: 0 means the number of cells

  // Refuses, before any work, what the kernels' keys cannot count; returns itself.
  const Pooling& checked(index key_bits) const;
};

// `cells` (n, c, oh, ow), contiguous, or nullptr: the flat place h*W + w of each maximum; -1 for a window of padding.
template <class T>
void max_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y, index* cells);
// gx[cell] += gy; cells outside the plane are passed over and make it return false.
template <class T>
bool max_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx);

template <class T>
void avg_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y);
template <class T>
void avg_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const OutputView& gx);

}  // namespace konv
