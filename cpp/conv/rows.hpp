// The one loader of image rows and the one writer of output rows: padding of every mode, strides of every kind and
// conversion from the storage type live here and nowhere else.
#pragma once
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
struct Corner {
  index n, c, row, column;
  index channels = 1, distance = 0;
  bool framed = false;
};
// Row r of channel p of them is the padded image (n, c + p) at (row + r*row_step, column + j*step), 0 <= j < count.
struct RowBlock : Corner {
  index rows, count;
  index row_step = 1, step = 1, half = 0;
};

template <class T> class RowReader {
 public:
  RowReader(const IsaTable& isa, const ImageView& x, PadMode mode) : table_(isa.rows.of<T>()), x_(x), mode_(mode) {}
  // dst[p*distance + r*pitch + j] of the block; writes exactly count values of each row. half > 0: the odd ones of them
  // from dst[.. + half] on, the even ones before. framed: an equal block left the zeros that are asked for.
  void read_rows(T* dst, index pitch, const RowBlock& b) const;
  // Brings the same rows of the next channel into a cache.
  void fetch_next(const RowBlock& b) const;

  // The row itself, when it lies inside the image, is stored as T and contiguous; else nullptr.
  const T* in_place(index n, index c, index row) const {
    if (x_.scalar != scalar_of<T> || x_.sw != 1 || row < 0 || row >= x_.h) return nullptr;
    return static_cast<const T*>(at(n, c, row, 0));
  }
 private:
  const void* at(index n, index c, index row, index column) const {
    return static_cast<const char*>(x_.plane(n, c)) + (row * x_.sh + column * x_.sw) * scalar_bytes(x_.scalar);
  }

  const RowTable<T>& table_;
  ImageView x_;
  PadMode mode_;
};

template <class T> class RowWriter {
 public:
  RowWriter(const IsaTable& isa, const OutputView& y) : table_(isa.rows.of<T>()), y_(y) {}
  // Cell (row + r, column + j) of y(n, c + p) = src[p*distance + r*pitch + j].
  void write_rows(const T* src, index pitch, const RowBlock& b) const {
    const OutputView y = y_.part(b.row, b.column, b.rows, b.count);
    for (index p = 0; p < b.channels; p++)
      table_.store_block[static_cast<int>(y.scalar)](
          {y.plane(b.n, b.c + p), y.sh, y.sw, src + p * b.distance, pitch, b.rows, b.count});
  }

  // The output plane itself when tiles may write it: stored as T, contiguous rows; else nullptr.
  T* in_place(index n, index c) const {
    return y_.scalar == scalar_of<T> && y_.sw == 1 ? static_cast<T*>(y_.plane(n, c)) : nullptr;
  }
 private:
  const RowTable<T>& table_;
  OutputView y_;
};

}  // namespace konv
