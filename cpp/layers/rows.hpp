// What the drivers of layers share: rows where they lie or in a buffer.
#pragma once
#include "../conv/rows.hpp"
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
}  // namespace konv
