// Gradient of the weight where each group has few output channels: depthwise layers, heads of one or two classes.
#pragma once
#include "grad_weight.hpp"

namespace konv::grad_depthwise {

bool fits(const Geometry& g);  // runs any geometry; fits where it is the faster one

template <class T>
void run(const GradWeightCall& call);

}  // namespace konv::grad_depthwise
