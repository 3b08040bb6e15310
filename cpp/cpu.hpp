// Which instruction sets this machine has, and which of them runs.
#pragma once
#include <string>
#include <vector>
#include "isa/table.hpp"

namespace konv {

// Compiled in and supported by both CPU and operating system, best first.
std::vector<const IsaTable*> available_isas();
// The best available one, or what KONV_ISA or use_isa named.
const IsaTable& current_isa();
// Throws std::invalid_argument when the name is not among the available ones.
void use_isa(const std::string& name);
// Where vectors have 64 bytes: the kernels for those half as long, and their time for a sum over that of full ones.
struct Shorter {
  const IsaTable* isa;
  double time;
};
Shorter shorter_vectors(const IsaTable& isa);
// Lets the best one multiply and add on this thread, and returns how many operations that were (a multiply and an add
// are two): the output-lane tile over panels in L1, so that neither latency nor memory is in the way. The sums are
// those of the dtype: "float64", "bfloat16" (pairs, where there are) or any that is added in float.
double multiply_add(const std::string& dtype, index repeats);
}  // namespace konv
