// Passes over images: normalisation and relu. What statistics mean is decided above (ops/norm.py).
#pragma once
#include "../isa/table.hpp"

namespace konv {

// One double for every channel of every image: values[n*sn + c*sc].
struct PerChannel {
  const double* values;
  index sn, sc;
};

// `images` and `numbers` of a pass, in this order:
enum class Pass {
  total,     // x                    sums: of x, and 0
  moments,   // x                    sums: mean of x, and sum of (x - mean)^2
  products,  // x, g  center         sums: sum of g, and sum of g*(x - center)
  affine,    // x     center, a, b   y = (x - center)*a + b
  combine,   // x, g  center, a, b, d  y = a*g + b*(x - center) + d
  relu,      // x[, g]                y = g, or x itself, where x > 0 or x is NaN, else 0
};

// The arrays of one pass: (n, c) images of one shape; those that it does not use stay empty.
struct PassArrays {
  index n, c;
  ImageView images[2];
  PerChannel numbers[4];
  OutputView y;
  double* sums;  // (2, n, c)
};

template <class T>
void run_pass(Pass pass, const IsaTable& isa, const PassArrays& a);

}  // namespace konv
