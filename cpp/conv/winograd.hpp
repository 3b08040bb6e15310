// Winograd convolution: fewer products for kernels of 2 taps and more, at the price of a little exactness.
#pragma once
#include "../plan.hpp"
#include "grad_weight.hpp"

namespace konv::winograd {

// One way to run a geometry.
struct Candidate {
  int mh, mw, r;     // F(mh x mw, r x r)
  double error;      // bound of the largest error over max|y| on random float32 data: see winograd_choice.cpp
  double products;   // multiplications against a direct sum's, edge tiles included
  double cost;       // estimated time against a direct sum's; below 1 it pays
  std::string name;  // "winograd F(4x4,3x3)"
};

// What is summed: outputs, or the gradient of the weight (stride 1 and real numbers alone).
enum class Sum : std::uint8_t { outputs, gradient };

// Transforms exact enough for the setting, the cheapest first; none for Precision::highest or integers. The bound of
// error counts for float32; float64 is exact to 1e-13 under each, and float16 and bfloat16 round outputs far more.
std::vector<Candidate> candidates(const konv::Problem& p, Precision precision, Sum sum = Sum::outputs);

void grad_weight(const GradWeightCall& call);
}  // namespace konv::winograd
