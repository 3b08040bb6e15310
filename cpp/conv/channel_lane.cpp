// Depthwise convolution with channels in the lanes, for images whose columns would fill vectors badly.
//   image  c0: # # #    transposed    cells    summed    sums    transposed
//          c1: # # #    --------->    [h*w]    ----->   [oh*ow]  ---------> y
//          ..                      each a vector of channels
// A unit of work is a vector of channels of one image: it stays in L1 or L2, and products with padding are left out.
#include "direct.hpp"
#include "rows.hpp"

namespace konv::channel_lane {

constexpr index most_cells = 4096;  // of an image

// One filter a channel, zeros around the image, and an image and outputs that a cache holds.
bool fits(const Geometry& g) {
  const auto small = [](index a, index b) { return std::max(a, b) <= most_cells && a * b <= most_cells; };
  return g.groups == g.c && g.oc == g.c && g.c > 0 && g.mode == PadMode::zeros && small(g.h, g.w) &&
         small(g.oh, g.ow) && std::max({g.pad_top, g.pad_left, g.rows_seen(), g.columns_seen()}) <= 2 * most_cells;
}

// Weights u[vector][tap][channel] are those of a layer from one channel to all.
Plan dense(Plan plan) {
  plan.g.c = plan.g.groups = 1;
  return plan;
}
template <class T> index packed_size(const Plan& plan) { return direct::packed_size<T>(dense(plan)); }
template <class T> void pack(const Plan& plan, const WeightView& weight, T* dst) {
  WeightView w = weight;
  w.so = w.sg;
  direct::pack<T>(dense(plan), w, dst);
}

template <class T> void run(const Call<T>& call) {
  const Geometry& g = call.plan.g;
  const DepthwiseTable<T>& kernels = call.plan.isa->depthwise.template of<T>();
  const RowReader<T> reader(*call.plan.isa, call.x, g.mode);
  const RowWriter<T> writer(*call.plan.isa, call.y);
  const index lanes = kernels.lanes, vectors = ceil_div(g.c, lanes), cells = g.h * g.w, pixels = g.oh * g.ow;
  const index values = (cells + std::max(cells, 2 * pixels)) * lanes, work = pixels * lanes * direct::depthwise_work(g);
  each_range<T>(call.n * vectors, work, values, call.scratch_limit(), [&](index unit, index last, T* x) {
    for (T* sums = x + cells * lanes; unit < last; unit++) {
      const index n = unit / vectors, c = unit % vectors * lanes, channels = std::min(lanes, g.c - c);
      alignas(64) T bias[64] = {};  // the kernel loads a whole vector
      std::copy_n(call.bias + c, channels, bias);
      reader.read_lanes(x, lanes, {{n, c, 0, 0, channels}, g.h, g.w}, sums);
      kernels.channels({g.oh, g.ow, g.kh, g.kw, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w, g.h, g.w, g.pad_top,
                        g.pad_left, x, call.weight + c * g.taps(), bias, sums});
      writer.write_lanes(sums, lanes, {{n, c, 0, 0, channels}, g.oh, g.ow}, sums + pixels * lanes);
    }
  });
}

const Algorithm algorithm = {"channel_lane", "depthwise channel_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};
}  // namespace konv::channel_lane
