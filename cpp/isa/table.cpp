// The one table that drivers see: every family of kernels of this instruction set.
//
// A constant made of addresses: no code of this instruction set runs before cpu.cpp knows that the CPU has it.
#include "table.hpp"

namespace konv::KONV_ISA {

extern const Family<RowTable> rows;
extern const Family<TileTable> tiles;
extern const Family<WinogradTable> winograd;
extern const Family<DepthwiseTable> depthwise;
extern const Family<LayerKernels> layers;
extern const TileTable<float> pairs;

#define KONV_TEXT_(x) #x
#define KONV_TEXT(x) KONV_TEXT_(x)

extern constinit const IsaTable table = {KONV_TEXT(KONV_ISA), rows, tiles, winograd, depthwise, layers};
}  // namespace konv::KONV_ISA

#if defined(KONV_PAIRS)  // the name of the same with products of pairs: see CMakeLists.txt
namespace konv::KONV_PAIRS {
using namespace KONV_ISA;
extern constinit const IsaTable table = {KONV_TEXT(KONV_PAIRS), rows, tiles, winograd, depthwise, layers, &pairs};
}  // namespace konv::KONV_PAIRS
#endif
