// Rows of the padded image: see rows.hpp.
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
    const auto fold = [&](index from, index to) {
      for (index j = from; j < to; j++)
        if (const index column = source_index(b.column + j * b.step, x_.w, mode_); column >= 0)
          table_.load(x_.scalar, dst + j, at(b.n, b.c, source, column), 1, 1, x_.sc);
    };
    fold(0, across.first);
    fold(across.last, b.count);
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

template class RowReader<float>;
template class RowReader<double>;
template class RowReader<index>;

}  // namespace konv
