// Gradient of the weight: any geometry, all paddings.
#pragma once
#include "../plan.hpp"

namespace konv {

// dW, contiguous (oc, group_c, kh, kw) in complex or real elements; complex: gy times the conjugate of x.
struct GradWeightCall {
  Geometry g;
  const IsaTable& isa;
  ImageView x;
  ImageView gy;
  index n;
  void* dw;  // storage and parts as gy's
  GradWeight algorithm;
  int tile = 0;  // Winograd: m of F(m, r)
};

namespace grad_weight {

void run(const GradWeightCall& call);

// Real sums in the compute type become elements of dW.
template <class T> class Writer {
 public:
  explicit Writer(const GradWeightCall& call) : call_(call) {}

  // sums[r*pitch + j]: output `output + r` of the group, the j-th of `count` columns from `channel` on; overwritten.
  void write(T* sums, index pitch, index group, index output, index outputs, index channel, index count) const {
    const Geometry& g = call_.g;
    const index parts = call_.gy.parts, bytes = scalar_bytes(call_.gy.scalar);
    for (index r = 0; r < outputs; r += parts, sums += parts * pitch) {
      // gy * conj(x): re = re*re + im*im, im = im*re - re*im, from the rows of gy's two parts into the first of them.
      const T* im = sums + pitch;
      for (index j = 0; parts == 2 && j < count; j += 2) {
        const T real = sums[j] + im[j + 1], imag = im[j] - sums[j + 1];
        sums[j] = real, sums[j + 1] = imag;
      }
      const index row = (group * g.group_oc() + output + r) / parts, at = (row * g.group_c() + channel) * g.taps();
      call_.isa.rows.template of<T>().store(call_.gy.scalar, static_cast<char*>(call_.dw) + at * bytes, 1, sums, count);
    }
  }
 private:
  const GradWeightCall& call_;
};
}  // namespace grad_weight
}  // namespace konv
