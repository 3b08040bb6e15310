// Depthwise convolution with channels in the lanes, for images whose columns would fill vectors badly.
//   image  c0: # # #    transposed    cells    summed    sums    transposed
//          c1: # # #    --------->    [h*w]    ----->   [oh*ow]  ---------> y
//          ..                      each a vector of channels
// A unit of work is a vector of channels of one image: it stays in L1 or L2, and products with padding are left out.
#include "direct.hpp"
#include "rows.hpp"

namespace konv::channel_lane {
namespace {

constexpr index most_cells = 4096;  // of an image

template <class T> class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call), g_(call.plan.g), tiles_(call.plan.isa->tiles.template of<T>()),
        kernels_(call.plan.isa->depthwise.template of<T>()), reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y), lanes_(kernels_.lanes), cells_(g_.h * g_.w), pixels_(g_.oh * g_.ow) {}

  void run() {
    const index vectors = ceil_div(g_.c, lanes_), units = call_.n * vectors, taps = g_.taps();
    const index all = (taps + 1 + cells_ + std::max(cells_, 2 * pixels_)) * lanes_;
    const index work = pixels_ * lanes_ * direct::depthwise_work(g_);
    each_range<T>(units, work, all, call_.scratch_limit(), [&](index unit, index last, T* w) {
      T *x = w + (taps + 1) * lanes_, *sums = x + cells_ * lanes_;
      for (; unit < last; unit++) {
        const index n = unit / vectors, c = unit % vectors * lanes_;
        const int channels = static_cast<int>(std::min(lanes_, g_.c - c));
        reader_.read_lanes(x, lanes_, {{n, c, 0, 0, channels}, g_.h, g_.w}, sums);
        tiles_.transpose_load(call_.weight + c * taps, taps, taps, channels, w, lanes_);  // the taps, then the bias
        for (index l = 0; l < lanes_; l++) w[taps * lanes_ + l] = l < channels ? call_.bias[c + l] : T(0);
        kernels_.channels({g_.oh, g_.ow, g_.kh, g_.kw, g_.stride_h, g_.stride_w, g_.dilation_h, g_.dilation_w, g_.h,
                           g_.w, g_.pad_top, g_.pad_left, x, w, sums});
        writer_.write_lanes(sums, lanes_, {{n, c, 0, 0, channels}, g_.oh, g_.ow}, sums + pixels_ * lanes_);
      }
    });
  }
 private:
  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const DepthwiseTable<T>& kernels_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const index lanes_, cells_, pixels_;  // of an image; of outputs
};
}  // namespace

// One filter a channel, zeros around the image, and an image and outputs that a cache holds.
bool fits(const Geometry& g) {
  const auto small = [](index a, index b) { return std::max(a, b) <= most_cells && a * b <= most_cells; };
  return g.groups == g.c && g.oc == g.c && g.c > 0 && g.mode == PadMode::zeros && small(g.h, g.w) &&
         small(g.oh, g.ow) && std::max({g.pad_top, g.pad_left, g.rows_seen(), g.columns_seen()}) <= 2 * most_cells;
}

using direct::pack, direct::packed_size;
template <class T> void run(const Call<T>& call) { Driver<T>(call).run(); }

const Algorithm algorithm = {"channel_lane", "depthwise channel_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};
}  // namespace konv::channel_lane
