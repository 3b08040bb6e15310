// Depthwise convolution: groups == channels, so each image channel meets filters of its own and nothing is summed
// across channels. Any kernel, stride, dilation, padding and channel multiplier.
#pragma once
#include "../plan.hpp"

namespace konv::depthwise {

bool fits(const Geometry& g);

template <class T>
index packed_size(const Plan& plan);

// dst[o][kh][kw], output channels in order.
template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst);

template <class T>
void run(const Call<T>& call);

}  // namespace konv::depthwise
