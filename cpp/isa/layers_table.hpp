// Kernels of the layers around a convolution. First version: filled in below.
#pragma once
#include "../geometry.hpp"

namespace konv {

struct LayerTable {};

}  // namespace konv
