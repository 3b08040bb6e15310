// What the drivers of layers share: rows where they lie or in a buffer, scratch of each thread, and work in ranges.
#pragma once
#include <algorithm>

#include "../conv/rows.hpp"
#include "../parallel.hpp"
#include "../workspace.hpp"

namespace konv {

// `rows` rows of `count` cells, one behind the other: where they lie, if they do so, else converted into `buffer`.
template <class T>
const T* rows_of(const RowReader<T>& reader, const ImageView& x, index n, index c, index row, index rows, index column,
                 index count, T* buffer) {
  const T* in_place = rows == 1 || x.sh == count ? reader.in_place(n, c, row) : nullptr;
  if (in_place) return in_place + column;
  reader.read_rows(buffer, count, n, c, row, 1, rows, column, 1, count);
  return buffer;
}

// fill(place) writes such rows: to where they belong in the output, or to `buffer`, from where they are converted.
template <class T, class F>
void fill_rows(const RowWriter<T>& writer, const OutputView& y, index n, index c, index row, index rows, index column,
               index count, T* buffer, F&& fill) {
  T* plane = rows == 1 || y.sh == count ? writer.in_place(n, c) : nullptr;
  fill(plane ? plane + row * y.sh + column : buffer);
  if (!plane) writer.write_rows(buffer, count, n, c, row, rows, column, count);
}

// Cuts a slot of a Workspace into arrays; the first pass, over no memory, only counts.
class Cutter {
 public:
  explicit Cutter(char* base = nullptr) : base_(base) {}
  template <class T>
  T* take(index count) {
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ = checked_add(used_, checked_mul(round_up(count, 64), sizeof(T)));
    return array;
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
