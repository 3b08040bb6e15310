// How many operations a second this machine's multipliers do: what measured layers are compared with.
#pragma once
#include "geometry.hpp"

namespace konv {

// A multiply and an add are two. One run of konv's threads by the best instruction set of this machine, which takes the
// longer the more `repeats`; each thread counts its own time, so that other programs do not lower the result.
template <class T>
double fma_rate(index repeats);

}  // namespace konv
