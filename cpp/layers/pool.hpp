// Pooling: the maximum or the average of windows of every channel, and the gradients.
#pragma once
#include <algorithm>
#include <vector>

#include "../isa/table.hpp"

namespace konv {

// The windows along one axis. Regular ones follow from kernel, stride, padding and dilation and are cut at the image's
// edge; adaptive ones are given: output i takes cells begin[i] .. end[i]-1, both ascending, and kernel is the longest.
struct PoolAxis {
  index size, outputs;
  index kernel = 1, stride = 1, pad = 0, dilation = 1;
  std::vector<index> begin{}, end{};

  bool adaptive() const { return !begin.empty(); }
  index start(index i) const { return adaptive() ? begin[i] : i * stride - pad; }
  // Cells of window i inside the image: the first tap, their number, and tap t of them.
  index first(index i) const { return start(i) < 0 ? ceil_div(-start(i), dilation) : 0; }
  index taps(index i) const {
    if (adaptive()) return end[i] - begin[i];
    const index last = std::min(kernel, ceil_div(std::max<index>(size - start(i), 0), dilation));
    return std::max<index>(last - first(i), 0);
  }
  index inside(index i, index t) const { return start(i) + (first(i) + t) * dilation; }
  // What an average divides by; padding after the image counts only as far as it was asked for, not to the window's
  // end.
  index count(index i, bool with_pad) const {
    if (adaptive() || !with_pad) return taps(i);
    return std::min(kernel, size + pad - start(i));
  }
  // One window, and it is the axis.
  bool whole() const { return outputs == 1 && start(0) == 0 && taps(0) == size; }
};

struct Pooling {
  index n, c;
  const PoolAxis &rows, &columns;
  bool count_pad = true;  // averages
  index divisor = 0;      // averages: 0 means the number of cells
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
