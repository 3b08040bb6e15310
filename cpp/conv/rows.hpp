// The one loader of image rows and the one writer of output rows: padding of every mode, strides of every kind and
// conversion from the storage type live here and nowhere else.
#pragma once
#include "../isa/table.hpp"

namespace konv {

// Where a padded index lies in the image, or -1 for a zero.
inline index source_index(index i, index size, PadMode mode) {
  if (i >= 0 && i < size) return i;
  switch (mode) {
    case PadMode::zeros:
      return -1;
    case PadMode::reflect:
      i = i < 0 ? -i : 2 * (size - 1) - i;
      break;
    case PadMode::replicate:
      i = i < 0 ? 0 : size - 1;
      break;
    case PadMode::circular:
      i = i < 0 ? i + size : i - size;
      break;
  }
  return i >= 0 && i < size ? i : -1;  // beyond what the mode can reach: only ever read for outputs nobody keeps
}

template <class T>
class RowReader {
 public:
  RowReader(const IsaTable& isa, const ImageView& x, PadMode mode);

  // dst[j] = padded image (n, c) at (row, column + j*step), 0 <= j < count; writes exactly count values.
  void read(T* dst, index n, index c, index row, index column, index step, index count) const;

  // Row r of the block is read(dst + r*pitch, n, c, row + r*row_step, ...).
  void read_rows(T* dst, index pitch, index n, index c, index row, index row_step, index rows, index column, index step,
                 index count) const;

  // The row itself, when it lies inside the image, is stored as T and contiguous; else nullptr.
  const T* in_place(index n, index c, index row) const;

 private:
  void read_padded(T* dst, const char* source, index column, index step, index count) const;

  ImageView x_;
  PadMode mode_;
  void (*load_)(T* dst, const void* src, index stride, index count);
  void (*load_block_)(const BlockLoad<T>&);
  bool same_type_;
};

template <class T>
class RowWriter {
 public:
  RowWriter(const IsaTable& isa, const OutputView& y);

  // y(n, c) at (row, column + j) = src[j], 0 <= j < count.
  void write(const T* src, index n, index c, index row, index column, index count) const;

  // y(n, c) at (row + r, column + j) = src[r*pitch + j].
  void write_rows(const T* src, index pitch, index n, index c, index row, index rows, index column, index count) const;

  // The output plane itself when tiles may write it: stored as T, contiguous rows; else nullptr.
  T* in_place(index n, index c) const;

 private:
  OutputView y_;
  void (*store_)(void* dst, index stride, const T* src, index count);
  void (*store_block_)(const BlockStore<T>&);
  bool same_type_;
};

}  // namespace konv
