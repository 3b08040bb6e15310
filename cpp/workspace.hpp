// Memory of results, and scratch of one call: blocks from a small cache of those that earlier ones left behind.
#pragma once
#include <functional>
#include <utility>
#include "parallel.hpp"

namespace konv {

// 64-byte aligned memory with room for one vector past its end. What it holds at first is anybody's.
class Memory {
 public:
  // Throws std::bad_alloc. A result may live long, so its block is hardly larger; scratch takes what there is.
  explicit Memory(index bytes, bool scratch = false);
  Memory(Memory&& other) noexcept : block_(std::exchange(other.block_, {})), bytes_(other.bytes_) {}
  ~Memory();

  void* data() const { return block_.data; }
  index bytes() const { return bytes_; }

  struct Block {
    void* data = nullptr;
    index capacity = 0;
  };
 private:
  Block block_;
  index bytes_;
};

// What a Workspace takes: bytes for all, bytes for each of `slots`, and bytes in all.
struct Scratch { index shared, per_slot, slots, total; };

class Workspace {
 public:
  // One slice for all, and one for each thread slot; throws std::bad_alloc before any work is done.
  Workspace(index shared, index per_slot, int slots);

  template <class T> T* shared() const { return static_cast<T*>(memory_.data()); }
  template <class T> T* slot(int i) const {
    return reinterpret_cast<T*>(shared<char>() + scratch_.shared + i * scratch_.per_slot);
  }  // 64-byte aligned

  // What the first Workspace that f makes would take; f ends there.
  static Scratch asked_by(const std::function<void()>& f);
 private:
  Scratch scratch_;
  Memory memory_;
};

// f(task, slot, its scratch of so many T) on at most so many threads, fewer where they would take more than `limit`.
template <class T, class F> void each_task(index tasks, int threads, index values, index limit, F&& f) {
  const index bytes = round_up(checked_mul(values, sizeof(T)), 64);
  const int slots = static_cast<int>(std::max<index>(1, std::min<index>({limit / (bytes + 64), threads, tasks})));
  const Workspace scratch(0, bytes, slots);
  parallel_for(tasks, [&](index task, int slot) { f(task, slot, scratch.slot<T>(slot)); }, slots);
}

// f(first, last, its scratch) on ranges of units. `work`: cells that one reads and writes; 16 K take some microseconds.
template <class T, class F> void each_range(index units, index work, index values, index limit, F&& f) {
  const double worth = double(units) * double(work) / (16 << 10);
  const int threads = static_cast<int>(std::clamp(worth, 1.0, double(num_threads())));
  const index tasks = std::min<index>({units, 1 << 20, round_up(1 + static_cast<index>(worth / 2), threads)});
  each_task<T>(tasks, threads, values, limit,
               [&](index task, int, T* scratch) { f(units * task / tasks, units * (task + 1) / tasks, scratch); });
}
}  // namespace konv
