// What the drivers of layers share: the scratch of one thread cut into rows, and work handed out in ranges.
#pragma once
#include <algorithm>

#include "../parallel.hpp"
#include "../workspace.hpp"

namespace konv {

// Cuts a slot of a Workspace into rows; the first pass, over no memory, only counts.
class Cutter {
 public:
  explicit Cutter(char* base = nullptr) : base_(base) {}
  template <class T>
  T* take(index count) {
    T* rows = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ = checked_add(used_, checked_mul(round_up(std::max<index>(count, 0), 64), sizeof(T)));
    return rows;
  }
  index used() const { return used_; }

 private:
  char* base_;
  index used_ = 0;
};

// f(first, last, slot) for ranges of units that are worth handing out; `work` is about the cells one unit touches.
template <class F>
void parallel_ranges(index units, index work, int slots, F&& f) {
  const index grain = std::max<index>(1, 16384 / std::max<index>(work, 1));
  parallel_for(
      ceil_div(units, grain), [&](index task, int slot) { f(task * grain, std::min(units, (task + 1) * grain), slot); },
      slots);
}

}  // namespace konv
