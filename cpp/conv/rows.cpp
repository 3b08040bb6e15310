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
template <class T> void RowReader<T>::read_rows(T* dst, index pitch, const RowBlock& b) const {
  if (b.channels != 1 && (mode_ != PadMode::zeros || x_.parts > 1)) {
    RowBlock one = b;
    for (one.channels = 1; one.c < b.c + b.channels; one.c++, dst += b.distance) read_rows(dst, pitch, one);
    return;
  }
  if (b.half > 0 && mode_ != PadMode::zeros) {
    RowBlock one = b;
    one.half = 0, one.step = 2 * b.step, one.count = (b.count + 1) / 2;
    read_rows(dst, pitch, one);
    one.column += b.step, one.count = b.count / 2;
    return read_rows(dst + b.half, pitch, one);
  }
  const Inside across(b.column, b.step, b.count, x_.w);
  const auto load = [&](T* to, index row, index top, index inside, index bottom) {
    const bool none = across.first == across.last;
    if (none) top += inside + bottom, inside = bottom = 0;
    table_.load_block[static_cast<int>(x_.scalar)](
        {to, pitch, b.half, none ? nullptr : at(b.n, b.c, row, b.column + across.first * b.step), b.row_step * x_.sh,
         b.step * x_.sw, top, inside, bottom, across.first, across.last - across.first, b.count - across.last,
         b.channels, b.distance, none ? 0 : x_.sc, b.framed});
  };
  if (mode_ == PadMode::zeros) {
    const Inside down(b.row, b.row_step, b.rows, x_.h);
    return load(dst, b.row + down.first * b.row_step, down.first, down.last - down.first, b.rows - down.last);
  }
  for (index r = 0; r < b.rows; r++, dst += pitch) {
    const index source = source_index(b.row + r * b.row_step, x_.h, mode_);
    load(dst, source, 0, source >= 0, source < 0);
    if (source < 0) continue;
    fold(dst, 0, across.first, b, source);
    fold(dst, across.last, b.count, b, source);
  }
}

template <class T> void RowReader<T>::fetch_next(const RowBlock& b) const {
  const Inside across(b.column, b.step, b.count, x_.w), down(b.row, b.row_step, b.rows, x_.h);
  for (index r = down.first; across.first < across.last && r < down.last; r++) {
    const auto cell = [&](index j) { return at(b.n, b.c + 1, b.row + r * b.row_step, b.column + j * b.step); };
    const char* from = static_cast<const char*>(cell(across.first));
    for (; from <= cell(across.last - 1); from += std::max<index>(64, b.step * x_.sw * scalar_bytes(x_.scalar)))
      __builtin_prefetch(from);
  }
}

template <class T> void RowReader<T>::fold(T* dst, index from, index to, const RowBlock& b, index row) const {
  for (index j = from; j < to; j++) {
    const index source = source_index(b.column + j * b.step, x_.w, mode_);
    if (source >= 0) table_.load(x_.scalar, dst + j, at(b.n, b.c, row, source), 1, 1, x_.sc);
  }
}

template <class T> const void* RowReader<T>::at(index n, index c, index row, index column) const {
  return static_cast<const char*>(x_.plane(n, c)) + (row * x_.sh + column * x_.sw) * scalar_bytes(x_.scalar);
}

template <class T> const T* RowReader<T>::in_place(index n, index c, index row) const {
  if (x_.scalar != scalar_of<T> || x_.sw != 1 || row < 0 || row >= x_.h) return nullptr;
  return static_cast<const T*>(x_.plane(n, c)) + row * x_.sh;
}

template <class T>
RowWriter<T>::RowWriter(const IsaTable& isa, const OutputView& y) : table_(isa.rows.of<T>()), y_(y) {}

template <class T> void RowWriter<T>::write_rows(const T* src, index pitch, const RowBlock& b) const {
  const index corner = (b.row * y_.sh + b.column * y_.sw) * scalar_bytes(y_.scalar);
  for (index p = 0; p < b.channels; p++)
    table_.store_block[static_cast<int>(y_.scalar)]({static_cast<char*>(y_.plane(b.n, b.c + p)) + corner, y_.sh, y_.sw,
                                                     src + p * b.distance, pitch, b.rows, b.count});
}

template <class T> T* RowWriter<T>::in_place(index n, index c) const {
  return y_.scalar == scalar_of<T> && y_.sw == 1 ? static_cast<T*>(y_.plane(n, c)) : nullptr;
}

template class RowReader<float>;
template class RowReader<double>;
template class RowReader<index>;
template class RowWriter<float>;
template class RowWriter<double>;
template class RowWriter<index>;

}  // namespace konv
