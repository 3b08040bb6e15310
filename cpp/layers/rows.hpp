// What the drivers of layers share: rows of images in the compute type, scratch of each thread, and work in ranges.
#pragma once
#include <algorithm>

#include "../conv/rows.hpp"
#include "../parallel.hpp"
#include "../workspace.hpp"

namespace konv {

// A channel whose rows lie one behind the other is one long row.
template <class View>
View joined_rows(View view, bool joined) {
  if (joined) view.w *= view.h, view.h = 1;
  return view;
}

// Rows of an image in the compute type: where they lie, or converted into `buffer`.
template <class T>
class Source {
 public:
  Source(const IsaTable& isa, const ImageView& x) : reader_(isa, x, PadMode::zeros) {}
  const T* row(index n, index c, index row, index column, index count, T* buffer) const {
    if (const T* in_place = reader_.in_place(n, c, row)) return in_place + column;
    reader_.read(buffer, n, c, row, column, 1, count);
    return buffer;
  }
  void copy(index n, index c, index row, index rows, index count, T* dst, index pitch) const {
    reader_.read_rows(dst, pitch, n, c, row, 1, rows, 0, 1, count);
  }

 private:
  RowReader<T> reader_;
};

// Rows of an output: write to `place`, then say `done`.
template <class T>
class Target {
 public:
  Target(const IsaTable& isa, const OutputView& y)
      : view_(y), writer_(isa, y), in_place_(y.data && writer_.in_place(0, 0)) {}
  T* place(index n, index c, index row, index column, T* buffer) const {
    return in_place_ ? static_cast<T*>(view_.plane(n, c)) + row * view_.sh + column : buffer;
  }
  void done(index n, index c, index row, index column, index count, const T* buffer) const {
    if (!in_place_) writer_.write(buffer, n, c, row, column, count);
  }

 private:
  OutputView view_;
  RowWriter<T> writer_;
  bool in_place_;
};

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

// f(scratch, first, last) for ranges of units that are worth handing out. `cut` makes the scratch of a thread from a
// Cutter; `work` is about the cells that one unit touches.
template <class Cut, class F>
void each_range(index units, index work, Cut&& cut, F&& f) {
  Cutter counter;
  cut(counter);
  const int slots = num_threads();
  const Workspace workspace(0, counter.used(), slots);
  const index grain = std::max<index>(1, 16384 / std::max<index>(work, 1));
  parallel_for(
      ceil_div(units, grain),
      [&](index task, int slot) {
        Cutter cutter(workspace.slot<char>(slot));
        f(cut(cutter), task * grain, std::min(units, (task + 1) * grain));
      },
      slots);
}

}  // namespace konv
