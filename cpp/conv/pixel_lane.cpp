// Direct convolution with pixels in the lanes.
//   y[o][q] = bias[o] + sum_k w[o][k] * x[offset[k] + q]      k = (channel, kh, kw)
// The tile loads neighbouring pixels, so each tap must see its pixels side by side: a block of the image is staged once
// into padded planes, one for each phase of the stride, in which tap (kh, kw) of every output lies at one fixed
// distance from it. Nothing is unrolled into a matrix. A 1x1 kernel needs no planes: see pointwise.cpp.
//   stride 2, 3x3:   a b a b a b        plane (0,0): a a a    plane (0,1): b b b      tap (kh, kw) is in plane
//                    c d c d c d                     a a a                 b b b      (kh % 2, kw % 2), moved by
//                    a b a b a b        plane (1,0): c c c    plane (1,1): d d d      (kh / 2, kw / 2)
//   weights                 w[panel][k][rows]
//   scratch of a thread     x[channel][column phase][row phase][row][pitch]
//                           sums[channel][pixel]            unless the tile writes into the output itself
// Loops: block of outputs (its planes fit in half of L2) -> panel of output channels (its weights pass through L1) ->
// row -> vectors of pixels -> k. Threads take blocks, or parts of the panels, or both.
// Source: the table of offsets is M. Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129.
#include "direct.hpp"
#include "stage.hpp"

namespace konv::pixel_lane {
namespace {

constexpr index wide_block = 192;  // columns below which a row is not cut for the sake of the cache

template <class T> class Driver {
 public:
  Driver(const Call<T>& call, const Geometry& g)
      : call_(call), g_(g), tiles_(direct::tiles<T>(call.plan)), lanes_(tiles_.lanes),
        panels_(direct::panels<T>(call.plan)), reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y), direct_(writer_.in_place(0, 0)), threads_(direct::useful_threads(g, call.n)) {
    const index target = std::min(cache_bytes, call_.scratch_limit() * 3 / 4 / threads_);
    rows_ = std::min<index>(g_.oh, 4), columns_ = g_.ow;
    const auto halve = [&](index& size, index least, index unit) {
      while (bytes(rows_, columns_) > target && size > least) size = std::max(least, round_up(ceil_div(size, 2), unit));
    };
    halve(columns_, std::min(g_.ow, wide_block), 3 * lanes_);
    halve(rows_, 1, 1);
    halve(columns_, std::min<index>(g_.ow, 3 * lanes_), lanes_);
    while (rows_ < g_.oh && bytes(rows_ + 1, columns_) <= target) rows_++;
    const index images = call_.n * g_.groups * ceil_div(g_.ow, columns_);
    if (rows_ == g_.oh) parts_ = shares(images);
    if (!parts_) rows_ = direct::balanced(g_.oh, rows_, images, threads_, 4);
    down_ = down(rows_), across_ = across(columns_);
    across_.pitch = down_.cells() * across_.length;
    channel_size_ = across_.runs * across_.pitch;
    if (!channels_apart<T>(channel_size_)) channel_size_ += 64 / index{sizeof(T)};
    planes_size_ = round_up(g_.group_c() * channel_size_ + across_.length + lanes_, lanes_);
    for (index c = 0; c < g_.group_c(); c++)
      for (index i = 0; i < g_.kh; i++)
        for (index j = 0; j < g_.kw; j++)
          offsets_.push_back(c * channel_size_ + down_.offset(i) * across_.length + across_.offset(j));
  }

  void run() {
    const Grid grid(g_, call_.n, 1, rows_, columns_);
    const index blocks = g_.groups * grid.count;
    const index parts = parts_ ? parts_ : std::min(panels_.count(), ceil_div(threads_, blocks));
    const index values = planes_size_ + (direct_ ? 0 : panels_.width * rows_ * columns_) + lanes_;
    each_task<T>(blocks * parts, threads_, values, call_.scratch_limit(), [&](index task, int, T* planes) {
      const index i = task / parts;
      const Share b{grid.at(i % grid.count), i / grid.count, task % parts};
      stage(reader_, planes, across_.length, down_, across_,
            corner_of(g_, b, b.group * g_.group_c(), g_.group_c(), channel_size_));
      const index from = panels_.count() * b.part / parts, to = panels_.count() * (b.part + 1) / parts;
      for (index panel = from; panel < to; panel++) add(b, panel, planes, planes + planes_size_);
    });
  }
 private:
  // Parts of the panels, as many for each thread, or none: where threads share rows of a few images instead, lines of
  // every plane go from core to core (1.0 to 3.8 times the time). To stage an image for each part must cost little.
  index shares(index images) const {
    const index enough = direct::blocks_a_thread * threads_, unit = images % threads_ ? threads_ : 1;
    const index worth = std::min(enough, g_.taps() * g_.group_oc() / 256 / g_.stride_h / g_.stride_w);
    const index parts = round_up(ceil_div(worth / threads_ * threads_, images), unit);
    return threads_ > 1 && worth >= threads_ && images < enough && parts <= panels_.count() ? parts : 0;
  }

  StagedAxis down(index rows) const { return {rows, g_.stride_h, g_.kh, g_.dilation_h, 1}; }
  StagedAxis across(index columns) const { return {columns, g_.stride_w, g_.kw, g_.dilation_w, 1}; }

  index bytes(index rows, index columns) const {
    const index cells = down(rows).cells() * across(columns).cells();
    return (g_.group_c() * cells + panels_.width * rows * columns) * index{sizeof(T)};
  }

  void add(const Share& b, index panel, const T* x, T* sums) const {
    const index kept = panels_.kept(panel), channel = b.group * g_.group_oc() + panels_.first(panel);
    T* y = direct_ ? writer_.in_place(b.n, channel) + b.row * call_.y.sh + b.column : sums;
    const index y_pitch = direct_ ? call_.y.sh : b.columns, ld = direct_ ? call_.y.sc : rows_ * columns_;
    for (index r = 0; r < b.rows; r++)
      tiles_.pixel_lane(static_cast<int>(kept), b.columns, panels_.k, call_.weight + panels_.offset(b.group, panel),
                        x + r * across_.length, offsets_.data(), call_.bias + channel, y + r * y_pitch, ld);
    if (!direct_) writer_.write_rows(sums, b.columns, {{b.n, channel, b.row, b.column, kept, ld}, b.rows, b.columns});
  }

  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const index lanes_;
  const Panels panels_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const bool direct_;  // the tile writes into the output
  const int threads_;
  index rows_ = 1, columns_ = 1, parts_ = 0;
  StagedAxis down_{1, 1, 1, 1}, across_{1, 1, 1, 1};
  index channel_size_ = 0, planes_size_ = 0;
  std::vector<index> offsets_;  // of k, in the planes
};
}  // namespace

// Beyond, planes of even a few pixels and the table of distances take megabytes.
bool fits(const Geometry& g) { return g.group_c() * g.taps() <= 1 << 16; }

using direct::pack, direct::packed_size;
template <class T> void run(const Call<T>& call) {
  Geometry g = direct::seen(call.plan);
  Call<T> flat = call;
  flat.x = direct::seen(call.plan, call.x, &ImageView::sc);
  direct::one_row(g, flat.x, flat.y);
  if (g.taps() == 1) pointwise::run(flat, g);
  else Driver<T>(flat, g).run();
}

const Algorithm algorithm = {
    "pixel_lane", "direct pixel_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};
}  // namespace konv::pixel_lane
