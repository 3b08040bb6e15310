// Gradients of the weight and of the bias.
#pragma once
#include "../plan.hpp"

namespace konv {

// dW, contiguous (oc, group_c, kh, kw) in complex or real elements; complex: gy times the conjugate of x.
struct GradWeightCall {
  const Geometry& g;
  const IsaTable& isa;
  ImageView x;
  ImageView gy;
  index n;
  void* dw;  // storage and parts as gy's
  GradWeight algorithm;
  int tile = 0;  // Winograd: m of F(m, r)
};

namespace grad_weight {

// Lanes full of pixels are faster than lanes full of channels.
inline bool few_outputs(const Geometry& g) { return g.group_oc() <= 4; }

// T: compute type, float or double. Any geometry, all paddings.
template <class T>
void run(const GradWeightCall& call);

}  // namespace grad_weight

// db[o] = sum of gy over images and pixels, in double precision; storage and parts as gy's.
template <class T>
void grad_bias(const IsaTable& isa, const ImageView& gy, index n, index channels, void* db);

}  // namespace konv
