// Pooling: the maximum or the average of windows of every channel, and the gradients.
#pragma once
#include <vector>

#include "../isa/table.hpp"

namespace konv {

// The windows along one axis: output i takes the `taps[i]` cells first[i], first[i] + dilation, ... of the image.
//
// Where kernel > 0 the same windows follow a rule: put cell m at m*spread + pad of a row that holds padding elsewhere;
// output i takes the `kernel` places i*stride, i*stride + dilation, ... (spread is the stride of the pooling whose
// transpose this is.)
struct PoolAxis {
  index size, dilation;
  std::vector<index> first, taps;
  index kernel, stride, spread, pad;

  index outputs() const { return static_cast<index>(first.size()); }
};

// average divides each sum by row_counts[row] * column_counts[column] of its output; spread, the transpose of another
// average, divides each cell so before it is added.
enum class PoolKind { maximum, average, spread };

struct Pooling {
  PoolKind kind;
  const PoolAxis &rows, &columns;
  const index *row_counts = nullptr, *column_counts = nullptr;  // of averages
  index n = 0, c = 0;
  ImageView x{};
  OutputView y{};
  // nullptr, or (n, c, oh, ow), contiguous: the flat place h*W + w of each maximum; -1 for a window of padding.
  index* cells = nullptr;
};

template <class T>
void pool(const IsaTable& isa, const Pooling& p);

// gx[cell] += gy for (n, c) images; cells outside the image are passed over and make it return false.
template <class T>
bool max_pool_gradient(const IsaTable& isa, index n, index c, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx);

}  // namespace konv
