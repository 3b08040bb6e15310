// The layers around a convolution: pooling, and passes over images (normalisation, relu).
#pragma once
#include <vector>
#include "../isa/table.hpp"

namespace konv {

// ---- pooling: the maximum or the average of windows of every channel ------------------------------------------------
// The windows along one axis: output i takes the `taps[i]` cells first[i], first[i] + dilation, ... of the image.
// Where kernel > 0 the same windows follow a rule: put cell m at m*spread + pad of a row that holds padding elsewhere;
// output i takes the `kernel` places i*stride, i*stride + dilation, ... (spread: of a transpose, the stride.)
struct PoolAxis {
  index size, dilation;
  std::vector<index> first, taps;
  std::vector<index> counts;  // averages: what the sums of each output, or the cells of a transpose, are divided by
  index kernel, stride, spread, pad;

  index outputs() const { return static_cast<index>(first.size()); }
};

// average divides each sum by the counts of its row and column; spread, an average's transpose, each cell beforehand.
enum class PoolKind { maximum, average, spread };

struct Pooling {
  PoolKind kind;
  const PoolAxis &rows, &columns;
  index n, c;
  ImageView x;
  OutputView y;
  index* cells;  // nullptr, or (n, c, oh, ow): the flat place h*W + w of each maximum; -1 for a window of padding
};

void pool(const IsaTable& isa, const Pooling& p);
// gx[cell] += gy for (n, c) images; throws if a cell lies outside the image (-1 is passed over).
void max_pool_gradient(const IsaTable& isa, index n, index c, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx);

// ---- passes (what statistics mean is decided above, in ops/norm.py): images and numbers in this order --------------
enum class Pass {
  sums,      // x                       sums: sum of x, and 0
  moments,   // x                       sums: mean of x, and sum of (x - mean)^2
  products,  // x, g  center            sums: sum of g, and sum of g*(x - center)
  affine,    // x     center, a, b      y = (x - center)*a + b
  combine,   // x, g  center, a, b, d   y = a*g + b*(x - center) + d
  relu,      // x[, g]                  y = g, or x itself, where x > 0 or x is NaN, else 0
};

// The arrays of one pass: (n, c) images of one shape; those that it does not use stay empty.
struct PassArrays {
  index n, c;
  ImageView images[2];
  struct {
    const double* values;
    index sn, sc;  // the number of channel c of image n is values[n*sn + c*sc]
  } numbers[4];
  OutputView y;
  double* sums;  // (2, n, c)
};

void run_pass(Pass pass, const IsaTable& isa, const PassArrays& a);
}  // namespace konv
