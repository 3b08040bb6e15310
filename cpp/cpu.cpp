// The kernels are compiled once for each instruction set; the compiler's own runtime knows which of them this CPU has,
// and whether the operating system saves the wide registers at a task switch (without that they must not be used).
#include "cpu.hpp"
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include "workspace.hpp"

namespace konv {

// KONV_EACH_ISA is KONV_ONE(x) for every instruction set x that was compiled in, the best first: see CMakeLists.txt.
#define KONV_ONE(isa) \
  namespace isa { extern const IsaTable table; }
KONV_EACH_ISA
#undef KONV_ONE

namespace {

// Of the levels of the x86-64 ABI that CMakeLists.txt compiles for, the features that make the difference among the
// CPUs that exist: before version 18 Clang does not know the levels by name.
#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
[[maybe_unused]] bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
[[maybe_unused]] bool has_wide() { return has_avx2(); }  // see CMakeLists.txt
[[maybe_unused]] bool has_wide_bf16() { return has_avx2(); }
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
  const IsaTable* isa = chosen.load(std::memory_order_acquire);
  if (isa) return *isa;
  const char* wanted = std::getenv("KONV_ISA");
  use_isa(wanted && *wanted ? wanted : available_isas().front()->name);
  return current_isa();
}

void use_isa(const std::string& name) {
  std::string names;
  for (const IsaTable* isa : available_isas()) {
    if (name == isa->name) return chosen.store(isa, std::memory_order_release);
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("instruction set '" + name + "' is not available here; there are " + names);
}

double multiply_add(const std::string& dtype, index repeats) {
  const IsaTable& isa = *available_isas().front();
  const auto run = [&]<class T>(const TileTable<T>& tiles) {
    constexpr index depth = 128;  // two vectors and a row of columns for each step: at most 16 + 7 KiB
    const index width = 2 * tiles.lanes, columns = tiles.o_columns;
    const index cells = depth * (width + columns) + 2 * columns * width;
    const Memory panels(cells * index(sizeof(T)));
    T *u = static_cast<T*>(panels.data()), *v = u + depth * width, *m = v + depth * columns,
      *init = m + columns * width;
    std::fill_n(u, cells, T(0.5));  // zeros would draw less power, and clocks rise
    for (index i = 0; i < repeats; i++) tiles.output_lane(2, columns, {depth, u, m, width, init, width}, v, columns);
    return 2.0 * static_cast<double>(repeats * depth * width * columns);
  };
  if (dtype == "bfloat16" && isa.pairs) return 2 * run(*isa.pairs);
  return dtype == "float64" ? run(isa.tiles.f64) : run(isa.tiles.f32);
}

}  // namespace konv
