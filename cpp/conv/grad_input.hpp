// Gradient of the image, which is also the forward pass of a transposed convolution: ordinary convolutions of gy, by
// the same plans and kernels as the forward pass.
#pragma once
#include <vector>

#include "../plan.hpp"

namespace konv {

// The cells of a region of the padded image that share their taps, and the convolution of gy that fills them.
struct GradInputPhase {
  Plan plan;
  index row, column;     // first cell, counted in the region; the others follow at the stride of the layer
  index tap_h, tap_w;    // tap of the layer behind tap (0, 0) of the plan
  index step_h, step_w;  // and the distance to the next one (negative)
  index packed;          // where the packed weight starts, in bytes
};

// Cells [row, row + rows) x [column, column + columns) of the padded image.
struct GradInputRegion {
  index row, column, rows, columns;
  std::vector<GradInputPhase> phases;
  bool gaps;  // there are cells that no tap reaches
};

struct GradInputPlan {
  Geometry g;  // of the layer: its image is the result, its output is gy
  Scalar scalar;
  int parts;
  const IsaTable* isa;
  bool conjugate;  // gradients conjugate complex weights, transposed convolutions do not
  GradInputRegion image;
  std::vector<GradInputRegion> borders;  // padding that is copied from the image: its gradient goes back there
  std::string layout;                    // what the packed weights depend on
  index packed_bytes;
};

GradInputPlan make_grad_input(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa, Precision precision,
                              bool conjugate, const std::string& forced = "");

namespace grad_input {

// `w`: the weight of the layer. T: compute type of the plan.
template <class T>
void pack(const GradInputPlan& plan, const WeightView& w, void* dst);

// `bias`: g.c values added to the result (zeros for a gradient); `result`: every cell is written.
template <class T>
void run(const GradInputPlan& plan, const void* packed, const T* bias, const ImageView& gy, const OutputView& result,
         index n);

}  // namespace grad_input
}  // namespace konv
