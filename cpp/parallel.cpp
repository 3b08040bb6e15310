// Fork-join pool.
//
// The calling thread is slot 0 and works too; worker i is slot i. Each has a share of neighbouring tasks and helps with
// the others' when it is done: threads seldom write the same cache lines, and the next call finds its memory in the
// same caches (up to 1.7 times as fast as tasks dealt one by one). One call at a time owns the pool; whoever finds it
// owned runs its tasks alone, so callers never wait for each other and cannot deadlock.
//   caller    claim pool - write job - open door - call workers - take tasks ... - close door - wait until empty
//   worker    idle: spin, then sleep - called: enter if the door is open - take tasks ... - leave
// The door is one word: the number of workers inside, and a bit that says whether more may enter. A worker that wakes
// up too late finds it closed and goes back to sleep; nobody waits for it. That makes a call on sleeping workers cost
// one system call instead of one wake-up (0.1 ms), and a call on a crowded machine never slower than one thread.
//
// After fork the child has none of the threads: its pool begins anew, whoever had it in use does not exist any more.
// Nothing here is a mutex, so nothing can be left locked. The pool is never destroyed: workers may outlive statics.
#include "parallel.hpp"
#include <pthread.h>
#include <signal.h>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

namespace konv {
namespace {

constexpr int most_threads = 1024;
constexpr auto spin_time = std::chrono::microseconds(100);  // longer than Python takes between two layers

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::atomic<int> wanted_threads{1}, cpus{1};

enum State : std::uint32_t { idle, asleep, called };
struct alignas(64) Slot {
  std::atomic<State> state{idle};  // of its worker
  std::atomic<index> next{0};      // of its share of the tasks
  index end = 0;
};

struct Job {
  detail::TaskFn fn = nullptr;
  void* context = nullptr;
  index tasks = 0;
  int slots = 0;
};

#if defined(__linux__)
// A thread that is woken on the CPU of the thread that called it waits until that one sleeps, call after call. It goes
// to another one that it may use; where it goes is the system's choice again at once.
void leave_cpu(int cpu) {
  cpu_set_t mine, others;
  if (cpu < 0 || sched_getcpu() != cpu || sched_getaffinity(0, sizeof mine, &mine)) return;
  others = mine;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof mine, &mine);
}
int this_cpu() { return sched_getcpu(); }
#else
void leave_cpu(int) {}
int this_cpu() { return -1; }
#endif

thread_local bool inside_task = false;

class Pool {
 public:
  bool claim() { return !owned_.load(std::memory_order_relaxed) && !owned_.exchange(true, std::memory_order_acquire); }

  void forget_threads() { started_ = 0, door_ = 0, owned_ = false; }

  // Only between claim() and the end of this call; slots >= 2.
  void run(const Job& job) {
    start_workers(job.slots - 1);
    job_ = job;
    cpu_.store(this_cpu(), std::memory_order_relaxed);
    for (int i = 0; i < job.slots; i++) {
      slots_[i].next.store(job.tasks * i / job.slots, std::memory_order_relaxed);
      slots_[i].end = job.tasks * (i + 1) / job.slots;
    }
    door_.store(open, std::memory_order_release);
    for (int i = 1; i <= std::min(job.slots - 1, started_); i++) {
      std::atomic<State>& state = slots_[i].state;
      if (state.exchange(called, std::memory_order_acq_rel) == asleep) state.notify_one();
    }
    take_tasks(0);
    door_.fetch_and(~open, std::memory_order_acq_rel);
    // The last tasks are as long as any: spin, then let a worker run that waits for this very CPU.
    for (int spins = 0; door_.load(std::memory_order_acquire); spins++)
      if (spins < 2000) relax();
      else std::this_thread::yield();
    owned_.store(false, std::memory_order_release);
  }
 private:
  static constexpr std::uint32_t open = 1u << 31;

  // Those of the own share, then what is left of the others'.
  void take_tasks(int own) {
    const Job job = job_;
    for (int i = 0; i < job.slots; i++) {
      Slot& slot = slots_[(own + i) % job.slots];
      for (index task; (task = slot.next.fetch_add(1, std::memory_order_relaxed)) < slot.end;)
        job.fn(job.context, task, own);
    }
  }

  void start_workers(int count) {
    if (started_ >= count) return;
    sigset_t all, before;  // signals belong to the program's own threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; started_ < count; started_++) {
        slots_[started_ + 1].state = idle;
        std::thread([this, slot = started_ + 1] { work(slot); }).detach();
      }
    } catch (...) {  // no more threads to be had: fewer do the same work
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void work(int slot) {
    inside_task = true;
    for (;;) {
      wait_for_call(slots_[slot].state);
      leave_cpu(cpu_.load(std::memory_order_relaxed));
      std::uint32_t door = door_.load(std::memory_order_acquire);
      while ((door & open) && !door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel)) relax();
      if (!(door & open)) continue;
      if (slot < job_.slots) take_tasks(slot);  // a late riser may meet a job that has no slot for it
      door_.fetch_sub(1, std::memory_order_release);
    }
  }

  static void wait_for_call(std::atomic<State>& state) {
    const auto is_idle = [&] { return state.load(std::memory_order_relaxed) == idle; };
    // With more threads than CPUs, spinning would take the CPU from the one that is waited for.
    if (num_threads() <= cpus.load(std::memory_order_relaxed)) {
      const auto until = std::chrono::steady_clock::now() + spin_time;
      while (is_idle() && std::chrono::steady_clock::now() < until)
        for (int i = 0; i < 64 && is_idle(); i++) relax();
    }
    State before = idle;
    if (state.compare_exchange_strong(before, asleep, std::memory_order_acq_rel))
      while (state.load(std::memory_order_acquire) == asleep) state.wait(asleep);
    state.exchange(idle, std::memory_order_acq_rel);
  }

  alignas(64) std::atomic<bool> owned_{false};
  int started_ = 0;
  Job job_;
  std::atomic<int> cpu_{0};  // of the caller
  alignas(64) std::atomic<std::uint32_t> door_{0};
  Slot slots_[most_threads];
};

Pool pool;

// Without it a child would call threads that it does not have.
const bool forks_are_seen = pthread_atfork(nullptr, nullptr, [] { pool.forget_threads(); }) == 0;
}  // namespace

int num_threads() { return wanted_threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  if (n < 1) throw std::invalid_argument("konv: the number of threads must be at least 1");
  wanted_threads.store(std::min(n, most_threads), std::memory_order_relaxed);
}

void set_cpus(int n) { cpus.store(n, std::memory_order_relaxed); }

void detail::run_tasks(index tasks, TaskFn fn, void* context, int max_threads) {
  const int slots = static_cast<int>(std::min<index>(tasks, std::min(num_threads(), max_threads)));
  const bool nested = std::exchange(inside_task, true);
  const bool shared = slots > 1 && !nested && forks_are_seen && pool.claim();
  if (shared) pool.run({fn, context, tasks, slots});
  for (index i = 0; !shared && i < tasks; i++) fn(context, i, 0);
  inside_task = nested;
}
}  // namespace konv
