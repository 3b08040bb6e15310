// Passes over images: normalisation and relu. What statistics mean is decided above (ops/norm.py).
#pragma once
#include "../isa/table.hpp"

namespace konv {

// One double for every channel of every image: values[n*sn + c*sc].
struct PerChannel {
  const double* values;
  index sn, sc;
  double at(index n, index c) const { return values[n * sn + c * sc]; }
};

// `numbers` of a pass, in this order:
enum class Pass {
  moments,        //                  sums: mean of x, and sum of (x - mean)^2
  products,       // center           sums: sum of g, and sum of g*(x - center)
  affine,         // center, a, b     y = (x - center)*a + b
  combine,        // center, a, b, d  y = a*g + b*(x - center) + d
  relu,           //                  y = max(x, 0); NaN stays
  relu_gradient,  //                  y = g where x > 0 or x is NaN, else 0
};

// The arrays of one pass: (n, c) images of one shape; those that it does not use stay empty.
struct PassArrays {
  index n, c;
  ImageView x, g;
  PerChannel numbers[4];
  OutputView y;
  double* sums;  // (2, n, c)
};

template <class T>
void run_pass(Pass pass, const IsaTable& isa, const PassArrays& a);

}  // namespace konv
