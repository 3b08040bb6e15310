// The kernels are compiled once for each instruction set; the compiler's own runtime knows which of them this CPU has,
// and whether the operating system saves the wide registers at a task switch (without that they must not be used).
#include "cpu.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace konv {

// KONV_EACH_ISA is KONV_ONE(x) for every instruction set x that was compiled in, the best first: see CMakeLists.txt.
#define KONV_ONE(isa)          \
  namespace isa {              \
  extern const IsaTable table; \
  }
KONV_EACH_ISA
#undef KONV_ONE

namespace {

// The levels of the x86-64 ABI that CMakeLists.txt compiles for. Clang knows them by name since 18; before, by the
// features that make the difference among the CPUs that exist.
#if !defined(__x86_64__)
#elif defined(__clang__) && __clang_major__ < 18
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_avx2() { return __builtin_cpu_supports("x86-64-v3"); }
bool has_avx512() { return __builtin_cpu_supports("x86-64-v4"); }
#endif
#if defined(__x86_64__)
[[maybe_unused]] bool has_wide() { return has_avx2(); }  // see CMakeLists.txt
#endif
[[maybe_unused]] bool has_neon() { return true; }  // part of every aarch64
[[maybe_unused]] bool has_baseline() { return true; }

std::atomic<const IsaTable*> chosen{nullptr};

}  // namespace

std::vector<const IsaTable*> available_isas() {
  std::vector<const IsaTable*> found;
#define KONV_ONE(isa) \
  if (has_##isa()) found.push_back(&isa::table);
  KONV_EACH_ISA
#undef KONV_ONE
  return found;
}

const IsaTable& current_isa() {
  if (const IsaTable* isa = chosen.load(std::memory_order_acquire)) return *isa;
  const char* wanted = std::getenv("KONV_ISA");
  if (wanted && *wanted) use_isa(wanted);
  else chosen.store(available_isas().front(), std::memory_order_release);
  return *chosen.load(std::memory_order_acquire);
}

void use_isa(const std::string& name) {
  std::string names;
  for (const IsaTable* isa : available_isas()) {
    if (name == isa->name) return chosen.store(isa, std::memory_order_release);
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("instruction set '" + name + "' is not available here; there are " + names);
}

}  // namespace konv
