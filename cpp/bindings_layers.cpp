// The layers around a convolution, for Python.
#include "arrays.hpp"

namespace konv {

void bind_layers(nb::module_&) {}

}  // namespace konv
