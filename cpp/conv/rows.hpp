// The one loader of image rows and the one writer of output rows: padding of every mode, strides of every kind and
// conversion from the storage type live here and nowhere else.
#pragma once
#include <algorithm>
#include "../isa/table.hpp"

namespace konv {

// Where a padded index lies in the image, or -1 for a zero.
inline index source_index(index i, index size, PadMode mode) {
  if (i >= 0 && i < size) return i;
  if (mode == PadMode::reflect) i = i < 0 ? -i : 2 * (size - 1) - i;
  else if (mode == PadMode::replicate) i = i < 0 ? 0 : size - 1;
  else if (mode == PadMode::circular) i = i < 0 ? i + size : i - size;
  return i >= 0 && i < size ? i : -1;  // beyond what the mode can reach: only ever read for outputs nobody keeps
}

// Where rows of some neighbouring channels begin; what they become lies `distance` apart.
struct Corner { index n, c, row, column, channels = 1, distance = 0; };
// Row r of channel p of them is the padded image (n, c + p) at (row + r*row_step, column + j*step), 0 <= j < count.
struct RowBlock : Corner { index rows, count, row_step = 1, step = 1, half = 0; };

// Of `count` cells that lie `step` apart from cell `at` on, those in [0, size).
struct Inside {
  index first, last;
  Inside(index at, index step, index count, index size)
      : first(at < 0 ? std::min(count, ceil_div(-at, step)) : 0), last(count) {
    if (at + (count - 1) * step >= size) last = std::clamp(ceil_div(size - at, step), first, count);
  }
};

template <class T> class RowReader {
 public:
  RowReader(const IsaTable& isa, const ImageView& x, PadMode mode)
      : table_(isa.rows.of<T>()), tiles_(isa.tiles.of<T>()), x_(x), mode_(mode) {}
  // dst[p*distance + r*pitch + j] of the block; writes exactly count values of each row. half > 0: the odd ones of them
  // from dst[.. + half] on, the even ones before. Zero padding: the rows inside the image in one call, in a frame of
  // zeros. Other modes: row by row, each with margins of zeros, over which the cells are then folded that lie before
  // column 0 and after column w.
  void read_rows(T* dst, index pitch, const RowBlock& b) const {
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
          {to, pitch, b.half, none ? nullptr : x_.cell(b.n, b.c, row, b.column + across.first * b.step),
           b.row_step * x_.sh, b.step * x_.sw, top, inside, bottom, across.first, across.last - across.first,
           b.count - across.last, b.channels, b.distance, none ? 0 : x_.sc});
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
            table_.load(x_.scalar, dst + j, x_.cell(b.n, b.c, source, column), 1, 1, x_.sc);
      };
      fold(0, across.first);
      fold(across.last, b.count);
    }
  }

  // A block inside the image with its channels in the lanes: dst[(r*count + j)*width + p], zeros from the last channel
  // to `width`, whole vectors. The buffer has room for the block.
  void read_lanes(T* dst, index width, RowBlock b, T* buffer) const {
    const index cells = b.distance = b.rows * b.count;
    const T* here = b.rows == 1 || x_.sh == b.count ? in_place(b.n, b.c, b.row) : nullptr;
    if (!here) read_rows(buffer, b.count, b);
    tiles_.transpose_load(here ? here + b.column : buffer, here ? x_.sc : cells, cells, static_cast<int>(b.channels),
                          dst, width);
  }

  // Where the cache lines of a block lie, in bytes from its channel in image 0 on; at most `room` of them.
  index lines(const RowBlock& b, index* to, index room) const {
    const Inside across(b.column, b.step, b.count, x_.w), down(b.row, b.row_step, b.rows, x_.h);
    const index cell = b.step * x_.sw * scalar_bytes(x_.scalar), bytes = (across.last - across.first) * cell;
    index count = 0;
    for (index r = down.first; r < down.last; r++) {
      const void* row = x_.cell(b.n, b.c, b.row + r * b.row_step, b.column + across.first * b.step);
      const index from = static_cast<const char*>(row) - static_cast<const char*>(x_.plane(0, b.c));
      for (index i = 0; i < bytes && count < room; i += std::max<index>(64, cell)) to[count++] = from + i;
    }
    return count;
  }

  // The row itself, when it lies inside the image, is stored as T and contiguous; else nullptr.
  const T* in_place(index n, index c, index row) const {
    if (x_.scalar != scalar_of<T> || x_.sw != 1 || row < 0 || row >= x_.h) return nullptr;
    return static_cast<const T*>(x_.cell(n, c, row, 0));
  }
 private:
  const RowTable<T>& table_;
  const TileTable<T>& tiles_;
  ImageView x_;
  PadMode mode_;
};

template <class T> class RowWriter {
 public:
  RowWriter(const IsaTable& isa, const OutputView& y) : table_(isa.rows.of<T>()), tiles_(isa.tiles.of<T>()), y_(y) {}
  // Cell (row + r*row_step, column + j) of y(n, c + p) = src[p*distance + r*pitch + j].
  void write_rows(const T* src, index pitch, const RowBlock& b) const {
    for (index p = 0; p < b.channels; p++)
      table_.store_block[static_cast<int>(y_.scalar)]({y_.cell(b.n, b.c + p, b.row, b.column), b.row_step * y_.sh,
                                                       y_.sw, src + p * b.distance, pitch, b.rows, b.count});
  }

  // A block from channels in the lanes, src[(r*count + j)*width + p]. The buffer has room for the block.
  void write_lanes(const T* src, index width, RowBlock b, T* buffer) const {
    T* plane = in_place(b.n, b.c);
    const bool row_by_row = plane && (y_.sh != b.count || b.row_step > 1);
    const index rows = row_by_row ? 1 : b.rows, cells = b.distance = rows * b.count;
    for (index r = 0; r < b.rows; r += rows, src += cells * width)
      tiles_.transpose_store(src, width, cells, plane ? plane + (b.row + r * b.row_step) * y_.sh + b.column : buffer,
                             plane ? y_.sc : cells, static_cast<int>(b.channels));
    if (!plane) write_rows(buffer, b.count, b);
  }

  // The output plane itself when tiles may write it: stored as T, contiguous rows; else nullptr.
  T* in_place(index n, index c) const {
    return y_.scalar == scalar_of<T> && y_.sw == 1 ? static_cast<T*>(y_.plane(n, c)) : nullptr;
  }
 private:
  const RowTable<T>& table_;
  const TileTable<T>& tiles_;
  OutputView y_;
};
}  // namespace konv
