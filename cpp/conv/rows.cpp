// Rows of the padded image, rows of the output: see rows.hpp.
#include "rows.hpp"

#include <algorithm>

namespace konv {
namespace {

// Of `count` cells that lie `step` apart from cell `at` on, those in [0, size).
struct Inside {
  index first, last;
  Inside(index at, index step, index count, index size)
      : first(at < 0 ? std::min(count, ceil_div(-at, step)) : 0), last(count) {
    if (at + (count - 1) * step >= size)
      last = at >= size ? first : std::clamp(ceil_div(size - at, step), first, count);
  }
};

}  // namespace

template <class T>
RowReader<T>::RowReader(const IsaTable& isa, const ImageView& x, PadMode mode)
    : table_(isa.rows.of<T>()), x_(x), mode_(mode) {}

// Zero padding: the rows inside the image in one call, in a frame of zeros. Other modes: row by row, each with margins
// of zeros, over which the cells are then folded that lie before column 0 and after column w.
template <class T>
void RowReader<T>::read_rows(T* dst, index pitch, index n, index c, index row, index row_step, index rows, index column,
                             index step, index count, index half, bool framed) const {
  if (half > 0 && mode_ != PadMode::zeros) {
    read_rows(dst, pitch, n, c, row, row_step, rows, column, 2 * step, (count + 1) / 2);
    return read_rows(dst + half, pitch, n, c, row, row_step, rows, column + step, 2 * step, count / 2);
  }
  const Inside across(column, step, count, x_.w);
  const auto load = [&](T* to, index from_row, index top, index inside, index bottom) {
    const bool none = across.first == across.last;
    if (none) top += inside + bottom, inside = bottom = 0;
    table_.load_block[static_cast<int>(x_.scalar)](
        {to, pitch, half, none ? nullptr : at(n, c, from_row, column + across.first * step), row_step * x_.sh,
         step * x_.sw, top, inside, bottom, across.first, across.last - across.first, count - across.last, framed});
  };
  if (mode_ == PadMode::zeros) {
    const Inside down(row, row_step, rows, x_.h);
    return load(dst, row + down.first * row_step, down.first, down.last - down.first, rows - down.last);
  }
  for (index r = 0; r < rows; r++, row += row_step, dst += pitch) {
    const index source = source_index(row, x_.h, mode_);
    load(dst, source, 0, source >= 0, source < 0);
    if (source < 0) continue;
    fold(dst, 0, across.first, n, c, source, column, step);
    fold(dst, across.last, count, n, c, source, column, step);
  }
}

template <class T>
void RowReader<T>::fold(T* dst, index from, index to, index n, index c, index row, index column, index step) const {
  for (index j = from; j < to; j++) {
    const index source = source_index(column + j * step, x_.w, mode_);
    if (source >= 0) table_.load(x_.scalar, dst + j, at(n, c, row, source), 1, 1);
  }
}

template <class T>
const void* RowReader<T>::at(index n, index c, index row, index column) const {
  return static_cast<const char*>(x_.plane(n, c)) + (row * x_.sh + column * x_.sw) * scalar_bytes(x_.scalar);
}

template <class T>
const T* RowReader<T>::in_place(index n, index c, index row) const {
  if (x_.scalar != scalar_of<T> || !x_.rows_contiguous() || row < 0 || row >= x_.h) return nullptr;
  return static_cast<const T*>(x_.plane(n, c)) + row * x_.sh;
}

template <class T>
RowWriter<T>::RowWriter(const IsaTable& isa, const OutputView& y) : table_(isa.rows.of<T>()), y_(y) {}

template <class T>
void RowWriter<T>::write_rows(const T* src, index pitch, index n, index c, index row, index rows, index column,
                              index count) const {
  char* plane = static_cast<char*>(y_.plane(n, c)) + (row * y_.sh + column * y_.sw) * scalar_bytes(y_.scalar);
  table_.store_block[static_cast<int>(y_.scalar)]({plane, y_.sh, y_.sw, src, pitch, rows, count});
}

template <class T>
T* RowWriter<T>::in_place(index n, index c) const {
  return y_.scalar == scalar_of<T> && y_.rows_contiguous() ? static_cast<T*>(y_.plane(n, c)) : nullptr;
}

template class RowReader<float>;
template class RowReader<double>;
template class RowReader<index>;
template class RowWriter<float>;
template class RowWriter<double>;
template class RowWriter<index>;

}  // namespace konv
