// The output-lane tile over panels that stay in the first-level cache: as many sums as there are registers, so that
// neither latency nor memory is in the way.
#include "peak.hpp"

#include <time.h>

#include <algorithm>

#include "cpu.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace konv {
namespace {

constexpr index depth = 128;         // two vectors and a row of columns for each step: at most 16 + 7 KiB
constexpr index tasks_a_thread = 8;  // who was interrupted leaves the rest to the others

// The thread's own time: it stands still while another program has the core.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct alignas(64) Share {  // of one thread
  double flops = 0, seconds = 0;
};

}  // namespace

template <class T>
double fma_rate(index repeats) {
  const TileTable<T>& tiles = available_isas().front()->tiles<T>();
  const int threads = num_threads();
  const index width = 2 * tiles.lanes, columns = tiles.o_columns;
  const index cells = depth * (width + columns) + 2 * columns * width;
  const Workspace panels(threads * index(sizeof(Share)), cells * index(sizeof(T)), threads);
  Share* shares = panels.shared<Share>();
  std::fill_n(shares, threads, Share{});
  // Zeros would draw less power, and clocks rise.
  for (int slot = 0; slot < threads; slot++) std::fill_n(panels.slot<T>(slot), cells, T(0.5));
  const auto task = [&](index, int slot) {
    T* u = panels.slot<T>(slot);
    T *v = u + depth * width, *m = v + depth * columns, *init = m + columns * width;
    const double start = thread_seconds();
    for (index i = 0; i < repeats; i++) tiles.output_lane(2, columns, depth, u, v, columns, m, width, init, width);
    shares[slot].seconds += thread_seconds() - start;
    shares[slot].flops += 2.0 * static_cast<double>(repeats * depth * width * columns);
  };
  parallel_for(threads * tasks_a_thread, task, threads);
  double rate = 0;
  for (int slot = 0; slot < threads; slot++)
    if (shares[slot].seconds > 0) rate += shares[slot].flops / shares[slot].seconds;
  return rate;
}

template double fma_rate<float>(index);
template double fma_rate<double>(index);

}  // namespace konv
