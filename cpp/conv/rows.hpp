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
  RowReader(const IsaTable& isa, const ImageView& x, PadMode mode);
  // dst[p*distance + r*pitch + j] of the block; writes exactly count values of each row. half > 0: the odd ones of them
  // from dst[.. + half] on, the even ones before. framed: an equal block left the zeros that are asked for.
  void read_rows(T* dst, index pitch, const RowBlock& b) const;
  // Brings the same rows of the next channel into a cache.
  void fetch_next(const RowBlock& b) const;

  // The row itself, when it lies inside the image, is stored as T and contiguous; else nullptr.
  const T* in_place(index n, index c, index row) const;
 private:
  const void* at(index n, index c, index row, index column) const;
  void fold(T* dst, index from, index to, const RowBlock& b, index row) const;

  const RowTable<T>& table_;
  ImageView x_;
  PadMode mode_;
};

template <class T> class RowWriter {
 public:
  RowWriter(const IsaTable& isa, const OutputView& y);
  // Cell (row + r, column + j) of y(n, c + p) = src[p*distance + r*pitch + j].
  void write_rows(const T* src, index pitch, const RowBlock& b) const;

  // The output plane itself when tiles may write it: stored as T, contiguous rows; else nullptr.
  T* in_place(index n, index c) const;
 private:
  const RowTable<T>& table_;
  OutputView y_;
};

}  // namespace konv
