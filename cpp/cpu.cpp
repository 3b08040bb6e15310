// Instruction sets are found by cpuid, and by asking the operating system (xgetbv) whether it saves the wide registers
// at a task switch: a CPU that has AVX-512 under a system that does not save its state must not use it.
//
// Source: Intel SDM volume 1, section 13.3 (XCR0) and 14.3, 15.2 (detection of AVX and AVX-512).
#include "cpu.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace konv {

// Each instruction set's table.cpp defines one of these.
#define KONV_DECLARE_ISA(isa)   \
  namespace isa {               \
  extern const IsaTable table;  \
  }
#if defined(KONV_HAS_avx512)
KONV_DECLARE_ISA(avx512)
#endif
#if defined(KONV_HAS_avx2)
KONV_DECLARE_ISA(avx2)
#endif
#if defined(KONV_HAS_neon)
KONV_DECLARE_ISA(neon)
#endif
#if defined(KONV_HAS_baseline)
KONV_DECLARE_ISA(baseline)
#endif

namespace {

#if defined(__x86_64__)
// Register states that the operating system saves: bits 1-2 SSE and AVX, bits 5-7 AVX-512.
std::uint64_t saved_states() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

bool has_avx2() {
  unsigned a, b, c, d;
  if ((saved_states() & 0x6) != 0x6 || !__get_cpuid(1, &a, &b, &c, &d)) return false;
  const unsigned needed = bit_FMA | bit_AVX | bit_F16C | bit_MOVBE | bit_POPCNT;
  if ((c & needed) != needed) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2) || !(b & bit_BMI) || !(b & bit_BMI2)) return false;
  return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT);
}

bool has_avx512() {
  unsigned a, b, c, d;
  if (!has_avx2() || (saved_states() & 0xe6) != 0xe6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned needed = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
  return (b & needed) == needed;
}
#endif

const IsaTable* by_name(const std::string& name) {
  for (const IsaTable* isa : available_isas())
    if (name == isa->name) return isa;
  return nullptr;
}

std::string unknown(const std::string& name) {
  std::string text = "instruction set '" + name + "' is not available here; there are ";
  for (const IsaTable* isa : available_isas())
    text += std::string(isa == available_isas().front() ? "" : ", ") + isa->name;
  return text;
}

std::atomic<const IsaTable*> chosen{nullptr};

}  // namespace

std::vector<const IsaTable*> available_isas() {
  static const std::vector<const IsaTable*> found = [] {
    std::vector<const IsaTable*> isas;
#if defined(KONV_HAS_avx512)
    if (has_avx512()) isas.push_back(&avx512::table);
#endif
#if defined(KONV_HAS_avx2)
    if (has_avx2()) isas.push_back(&avx2::table);
#endif
#if defined(KONV_HAS_neon)
    isas.push_back(&neon::table);
#endif
#if defined(KONV_HAS_baseline)
    isas.push_back(&baseline::table);
#endif
    return isas;
  }();
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
  const IsaTable* isa = by_name(name);
  if (!isa) throw std::invalid_argument(unknown(name));
  chosen.store(isa, std::memory_order_release);
}

}  // namespace konv
