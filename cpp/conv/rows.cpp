// Rows of the padded image, rows of the output: see rows.hpp.
#include "rows.hpp"

#include <algorithm>

namespace konv {

template <class T>
RowReader<T>::RowReader(const IsaTable& isa, const ImageView& x, PadMode mode)
    : x_(x),
      mode_(mode),
      load_(isa.rows<T>().load[static_cast<int>(x.scalar)]),
      load_block_(isa.rows<T>().load_block[static_cast<int>(x.scalar)]),
      same_type_(x.scalar == scalar_of<T>) {}

template <class T>
void RowReader<T>::read(T* dst, index n, index c, index row, index column, index step, index count) const {
  const index h = source_index(row, x_.h, mode_);
  if (h < 0 || x_.w == 0) {
    std::fill_n(dst, count, T(0));
    return;
  }
  const char* source = static_cast<const char*>(x_.plane(n, c)) + h * x_.sh * scalar_bytes(x_.scalar);
  if (column >= 0 && column + (count - 1) * step < x_.w) {
    load_(dst, source + column * x_.sw * scalar_bytes(x_.scalar), x_.sw * step, count);
  } else {
    read_padded(dst, source, column, step, count);
  }
}

//   column            0                      w
//   |  before: mode   |  inside: load        |  after: mode  |
template <class T>
void RowReader<T>::read_padded(T* dst, const char* source, index column, index step, index count) const {
  const index bytes = scalar_bytes(x_.scalar);
  const index first = std::min(count, column < 0 ? ceil_div(-column, step) : 0);
  const index last = column >= x_.w ? first : std::clamp(ceil_div(x_.w - column, step), first, count);
  const auto outside = [&](index from, index to) {
    if (mode_ == PadMode::zeros) return std::fill(dst + from, dst + to, T(0)), void();
    for (index j = from; j < to; j++) {
      const index at = source_index(column + j * step, x_.w, mode_);
      if (at < 0) dst[j] = T(0);
      else load_(dst + j, source + at * x_.sw * bytes, 1, 1);
    }
  };
  outside(0, first);
  if (last > first) load_(dst + first, source + (column + first * step) * x_.sw * bytes, x_.sw * step, last - first);
  outside(last, count);
}

// Zero padding: the rows inside the image in one call, margins of zeros around them. Other modes fold row by row.
template <class T>
void RowReader<T>::read_rows(T* dst, index pitch, index n, index c, index row, index row_step, index rows, index column,
                             index step, index count) const {
  if (mode_ != PadMode::zeros) {
    for (index r = 0; r < rows; r++) read(dst + r * pitch, n, c, row + r * row_step, column, step, count);
    return;
  }
  const index first = std::min(count, column < 0 ? ceil_div(-column, step) : 0);
  const index last = column >= x_.w ? first : std::clamp(ceil_div(x_.w - column, step), first, count);
  const index top = std::min(rows, row < 0 ? ceil_div(-row, row_step) : 0);
  const index bottom = row >= x_.h ? top : std::clamp(ceil_div(x_.h - row, row_step), top, rows);
  for (index r = 0; r < top; r++) std::fill_n(dst + r * pitch, count, T(0));
  if (bottom > top) {
    const index at = (row + top * row_step) * x_.sh + (column + first * step) * x_.sw;
    const char* source = static_cast<const char*>(x_.plane(n, c)) + (last > first ? at * scalar_bytes(x_.scalar) : 0);
    load_block_({dst + top * pitch, pitch, source, row_step * x_.sh, step * x_.sw, bottom - top, first, last - first,
                 count - last});
  }
  for (index r = bottom; r < rows; r++) std::fill_n(dst + r * pitch, count, T(0));
}

template <class T>
const T* RowReader<T>::in_place(index n, index c, index row) const {
  if (!same_type_ || !x_.rows_contiguous() || row < 0 || row >= x_.h) return nullptr;
  return static_cast<const T*>(x_.plane(n, c)) + row * x_.sh;
}

template <class T>
RowWriter<T>::RowWriter(const IsaTable& isa, const OutputView& y)
    : y_(y),
      store_(isa.rows<T>().store[static_cast<int>(y.scalar)]),
      store_block_(isa.rows<T>().store_block[static_cast<int>(y.scalar)]),
      same_type_(y.scalar == scalar_of<T>) {}

template <class T>
void RowWriter<T>::write(const T* src, index n, index c, index row, index column, index count) const {
  char* plane = static_cast<char*>(y_.plane(n, c));
  store_(plane + (row * y_.sh + column * y_.sw) * scalar_bytes(y_.scalar), y_.sw, src, count);
}

template <class T>
void RowWriter<T>::write_rows(const T* src, index pitch, index n, index c, index row, index rows, index column,
                              index count) const {
  char* plane = static_cast<char*>(y_.plane(n, c)) + (row * y_.sh + column * y_.sw) * scalar_bytes(y_.scalar);
  store_block_({plane, y_.sh, y_.sw, src, pitch, rows, count});
}

template <class T>
T* RowWriter<T>::in_place(index n, index c) const {
  return same_type_ && y_.rows_contiguous() ? static_cast<T*>(y_.plane(n, c)) : nullptr;
}

template class RowReader<float>;
template class RowReader<double>;
template class RowReader<index>;
template class RowWriter<float>;
template class RowWriter<double>;
template class RowWriter<index>;

}  // namespace konv
