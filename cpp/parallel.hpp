// Fork-join over konv's own threads. No OpenMP: it deadlocks after fork and fights with other runtimes.
#pragma once
#include <algorithm>
#include "geometry.hpp"

namespace konv {

int num_threads();            // 1 until it is set
void set_num_threads(int n);  // 1 <= n; threads start at the first use and again after fork
void set_cpus(int n);         // that this process may use: with more threads, those without work do not spin

// How many threads so many products are worth: one for every 125,000, which take some microseconds; a join costs one.
inline int threads_for(double products) {
  return static_cast<int>(std::clamp(products / 125e3, 1.0, double(num_threads())));
}

namespace detail {
using TaskFn = void (*)(void* context, index task, int slot) noexcept;
void run_tasks(index tasks, TaskFn fn, void* context, int max_threads);
}  // namespace detail

// f(task, slot) for every task in [0, tasks), a share of neighbours to each thread; slot < num_threads() names the
// scratch a task may use. Results must not depend on who runs what. Several Python threads may call at once: one gets
// the pool, the others run their tasks themselves; a call made by a task runs inside that task, with slot 0.
// Another thread may change num_threads() at any time: who sizes scratch by it reads it once and gives the same number
// as max_threads, because slot < max_threads always holds. f must not throw.
template <class F> void parallel_for(index tasks, F&& f, int max_threads = 1 << 20) {
  if (tasks <= 0) return;
  using Body = std::remove_reference_t<F>;
  detail::run_tasks(tasks, [](void* c, index task, int slot) noexcept { (*static_cast<Body*>(c))(task, slot); },
                    const_cast<void*>(static_cast<const void*>(&f)), max_threads);
}
}  // namespace konv
