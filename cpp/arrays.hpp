// NumPy arrays at the border, through Python's buffer protocol: what nanobind's own arrays cannot hold (bfloat16,
// read-only, negative and zero strides) and at a third of their price.
//
// bfloat16 has no format letter; the Python side passes such an array as a view of uint16 ('H'), no other type of ours.
#pragma once
#include <nanobind/nanobind.h>
#include <unistd.h>
#include "plan.hpp"

namespace konv {

namespace nb = nanobind;

// The memory of an array, held as long as this lives. Make and destroy it with the GIL held.
class Array {
 public:
  explicit Array(nb::handle array, bool writable = false);
  ~Array() { PyBuffer_Release(&view_); }
  Array(Array&&) = delete;

  // Kernels cannot read it as it lies: foreign byte order, elements off their alignment. The caller copies it first.
  bool foreign() const { return foreign_; }
  Scalar scalar() const { return scalar_; }
  index size(int axis) const { return view_.shape[axis]; }
  index stride(int axis) const { return view_.strides[axis] / scalar_bytes(scalar_); }  // in scalars
  void* data() const { return view_.buf; }

  // Throws std::invalid_argument unless the array has this type and shape; axes may be of `any` size.
  void expect(Scalar scalar, int parts, std::initializer_list<index> shape, const char* who) const;
  static constexpr index any = -1;

  template <class V> V view() const {
    return {data(), scalar_, parts_, size(2), size(3), stride(0), stride(1), stride(2), stride(3)};
  }
  ImageView image() const { return view<ImageView>(); }
 private:
  Py_buffer view_;
  Scalar scalar_ = Scalar::f32;
  int parts_ = 1;
  bool foreign_ = false;
};

// Lets other Python threads run while this lives.
// When the interpreter ends under a daemon thread, taking the GIL back unwinds that thread (before Python 3.14), and
// unwinding a destructor would end the process with an error. The thread sleeps on instead, as in Python 3.14.
class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ReleaseGil(const ReleaseGil&) = delete;
  ~ReleaseGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) pause();
    }
  }
 private:
  PyThreadState* state_;
};

// A layer as Python names it: 15 sizes in its own channels (complex ones count double in Geometry), a padding mode, a
// dtype and a precision; with the instruction set of the moment. Throws unless drivers can count in its sizes.
Problem make_problem(const std::vector<index>& sizes, const std::string& mode, const std::string& dtype,
                     const std::string& precision);

void bind_layers(nb::module_& m);
}  // namespace konv
