// Normalisation in four passes over images; what the statistics mean is decided above (ops/norm.py).
#pragma once
#include "../isa/table.hpp"

namespace konv {

// One double for every channel of every image: values[n*sn + c*sc].
struct PerChannel {
  const double* values;
  index sn, sc;
  double at(index n, index c) const { return values[n * sn + c * sc]; }
};

// mean and m2 (n, c), contiguous: mean and sum of squared deviations of each channel of each image.
template <class T>
void channel_moments(const IsaTable& isa, index n, index c, const ImageView& x, double* mean, double* m2);

// sums and products (n, c): sum g and sum g*(x - center).
template <class T>
void channel_products(const IsaTable& isa, index n, index c, const ImageView& g, const ImageView& x,
                      const PerChannel& center, double* sums, double* products);

// y = (x - center)*scale + shift
template <class T>
void channel_affine(const IsaTable& isa, index n, index c, const ImageView& x, const PerChannel& center,
                    const PerChannel& scale, const PerChannel& shift, const OutputView& y);

// y = a*g + b*(x - center) + shift
template <class T>
void channel_combine(const IsaTable& isa, index n, index c, const ImageView& g, const ImageView& x, const PerChannel& a,
                     const PerChannel& b, const PerChannel& center, const PerChannel& shift, const OutputView& y);

}  // namespace konv
