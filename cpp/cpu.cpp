// The kernels are compiled once for each instruction set; the compiler's own runtime knows which of them this CPU has,
// and whether the operating system saves the wide registers at a task switch (without that they must not be used).
#include "cpu.hpp"
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>
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
bool has([[maybe_unused]] std::string_view isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == "avx512_bf16") return avx512 && __builtin_cpu_supports("avx512bf16");
  if (isa == "avx512") return avx512;
  if (isa == "avx2" || isa.starts_with("wide")) return avx2;  // wide: see CMakeLists.txt
#endif
  return true;  // what every CPU of the architecture has
}

std::atomic<const IsaTable*> chosen{nullptr};
}  // namespace

std::vector<const IsaTable*> available_isas() {
  std::vector<const IsaTable*> found;
#define KONV_ONE(isa) \
  if (has(#isa)) found.push_back(&isa::table);
  KONV_EACH_ISA
#undef KONV_ONE
  return found;
}

const IsaTable& current_isa() {
  if (const IsaTable* isa = chosen.load(std::memory_order_acquire)) return *isa;
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

Shorter shorter_vectors(const IsaTable& isa) {
  constexpr int longest = 64 / sizeof(float);
  double time = 1.7;  // of CPUs that run long vectors at once; not measured
#if defined(__x86_64__)
  if (__builtin_cpu_is("amdfam19h")) time = 1.1;  // Zen 4 runs them in two halves
#endif
  for (const IsaTable* half : available_isas())
    if (isa.tiles.f32.lanes == longest && half->tiles.f32.lanes == longest / 2) return {half, time};
  return {};
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
