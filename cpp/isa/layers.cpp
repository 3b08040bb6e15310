// Kernels of the layers around a convolution.
#include "layers_table.hpp"

#include "simd.hpp"

namespace konv::KONV_ISA {
extern constinit const LayerTable layers = {};
}  // namespace konv::KONV_ISA
