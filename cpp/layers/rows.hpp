// What the drivers of layers share: rows where they lie or in a buffer, scratch of each thread, and work in ranges.
#pragma once
#include "../conv/rows.hpp"
#include "../parallel.hpp"
#include "../workspace.hpp"

namespace konv {

// The rows of a block one behind the other: where they lie, if they do so, else converted into `buffer`.
template <class T> const T* rows_of(const RowReader<T>& reader, const ImageView& x, const RowBlock& b, T* buffer) {
  const T* in_place = b.rows == 1 || x.sh == b.count ? reader.in_place(b.n, b.c, b.row) : nullptr;
  if (in_place) return in_place + b.column;
  reader.read_rows(buffer, b.count, b);
  return buffer;
}

// fill(place) writes such rows: to where they belong in the output, or to `buffer`, from where they are converted.
template <class T, class F>
void fill_rows(const RowWriter<T>& writer, const OutputView& y, const RowBlock& b, T* buffer, F&& fill) {
  T* plane = b.rows == 1 || y.sh == b.count ? writer.in_place(b.n, b.c) : nullptr;
  fill(plane ? plane + b.row * y.sh + b.column : buffer);
  if (!plane) writer.write_rows(buffer, b.count, b);
}

// f(scratch, first, last) for ranges of units worth handing out, with scratch for `count` T. `work`: cells of a unit.
template <class T, class F> void each_range(index units, index work, index count, F&& f) {
  const index grain = std::max<index>(1, 16384 / std::max<index>(work, 1)), ranges = ceil_div(units, grain);
  const int slots = static_cast<int>(std::clamp<index>(ranges, 1, num_threads()));
  const Workspace workspace(0, round_up(checked_mul(count, sizeof(T)), 64), slots);
  parallel_for(ranges, [&](index i, int slot) {
    f(workspace.slot<T>(slot), i * grain, std::min(units, (i + 1) * grain));
  }, slots);
}
}  // namespace konv
