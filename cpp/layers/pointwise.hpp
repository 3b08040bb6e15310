// Operations on each element of arrays of any rank and strides.
#pragma once
#include <vector>

#include "../isa/table.hpp"

namespace konv {

struct Strided {
  const void* data;
  Scalar scalar;
  std::vector<index> strides;  // in scalars, one for each axis of the shape
};

// y (contiguous, of the scalar of x) = relu(x)
template <class T>
void relu(const IsaTable& isa, const std::vector<index>& shape, const Strided& x, void* y);
// gx = g where y > 0 (or y is NaN), else 0
template <class T>
void relu_gradient(const IsaTable& isa, const std::vector<index>& shape, const Strided& g, const Strided& y, void* gx);

}  // namespace konv
