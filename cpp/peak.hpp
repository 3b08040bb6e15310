// How many operations a second this machine's multipliers do: what measured layers are compared with.
#pragma once

namespace konv {

// A multiply and an add are two. The best of the short runs that fit into `seconds`, on all of konv's threads, by the
// best instruction set of this machine: whatever else runs here meanwhile costs runs, not the result.
template <class T>
double fma_peak(double seconds);

}  // namespace konv
