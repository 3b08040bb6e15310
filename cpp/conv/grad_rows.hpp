// The last step of every weight gradient: real sums in the compute type become elements of dW.
#pragma once
#include "../isa/table.hpp"

namespace konv {

// dW is contiguous (oc, group_c, kh, kw) in elements of `parts` scalars. Real sums are counted in output channel o and
// column (channel / parts, tap, channel % parts), so that dW's row of an output element starts at o * columns.
template <class T>
class WeightGradWriter {
 public:
  WeightGradWriter(const IsaTable& isa, void* dw, Scalar scalar, int parts, index columns)
      : dw_(static_cast<char*>(dw)),
        bytes_(scalar_bytes(scalar)),
        parts_(parts),
        columns_(columns),
        store_(isa.rows<T>().store[static_cast<int>(scalar)]),
        direct_(parts == 1 && scalar == scalar_of<T>) {}

  // Where output o, column c may be written as T without conversion, rows `columns` apart; else nullptr.
  T* in_place(index o, index c) const { return direct_ ? reinterpret_cast<T*>(dw_) + o * columns_ + c : nullptr; }

  // sums[r*pitch + j] belongs to output o + r, column c + j. Overwrites sums.
  void write(T* sums, index pitch, index rows, index o, index c, index count) const {
    if (parts_ == 2) join(sums, pitch, rows, count);
    for (index r = 0; r < rows; r += parts_)
      store_(dw_ + ((o + r) / parts_ * columns_ + c) * bytes_, 1, sums + r * pitch, count);
  }

 private:
  // gy * conj(x): re = re*re + im*im, im = im*re - re*im, from the rows of gy's two parts into the first of them.
  void join(T* sums, index pitch, index rows, index count) const {
    for (index r = 0; r < rows; r += 2) {
      T *re = sums + r * pitch, *im = re + pitch;
      for (index j = 0; j < count; j += 2) {
        const T real = re[j] + im[j + 1], imag = im[j] - re[j + 1];
        re[j] = real, re[j + 1] = imag;
      }
    }
  }

  char* dw_;
  index bytes_;
  int parts_;
  index columns_;
  void (*store_)(void* dst, index stride, const T* src, index count);
  bool direct_;
};

}  // namespace konv
