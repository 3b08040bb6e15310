// Direct convolution with pixels in the lanes.
//
//   y[o][q] = bias[o] + sum_k w[o][k] * x[offset[k] + q]      k = (channel, kh, kw)
//
// The tile loads neighbouring pixels, so each tap must see its pixels side by side: a block of the image is staged once
// into padded planes, one for each phase of the stride, in which tap (kh, kw) of every output lies at one fixed
// distance from it. Nothing is unrolled into a matrix.
//
//   stride 2, 3x3:   a b a b a b        plane (0,0): a a a    plane (0,1): b b b      tap (kh, kw) is in plane
//                    c d c d c d                     a a a                 b b b      (kh % 2, kw % 2), moved by
//                    a b a b a b        plane (1,0): c c c    plane (1,1): d d d      (kh / 2, kw / 2)
//
//   weights                 w[panel][k][rows]
//   scratch of a thread     x[channel][column phase][row phase][row][pitch]
//                           sums[channel][pixel]            unless the tile writes into the output itself
//
// A 1x1 kernel without stride or padding needs no planes: the image is one long row, channel c lies at the distance
// c * (channel stride). Only the last pixels, which do not fill a vector, are staged; and the first ones, so that the
// others begin on a cache line (large NumPy arrays begin 16 bytes after one: 1.0 to 1.2 times as fast). Channels that
// begin at different places in a line, as in images of 33 x 33, are staged if enough panels read them: half of their
// vectors are two lines (1.1 to 1.9 times as fast, 2.8 with 2048 channels).
//
// Two ways to walk the pixels of a block:
//   by row   one call of the tile for each output row; it writes straight into the output
//   flat     one call for all rows, gaps between rows included; better when rows fit vectors badly. With zero padding,
//            the right padding of a row is the left padding of the next, which narrows the gaps.
//
// Loops: block of outputs (its planes fit in half of L2) -> panel of output channels (its weights pass through L1) ->
// vectors of pixels -> k. Threads take blocks; where there are few, shares of the panels too.
// Source: the table of offsets is M. Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129.
#include <vector>

#include "../workspace.hpp"
#include "direct.hpp"
#include "stage.hpp"

namespace konv::pixel_lane {
namespace {

constexpr index cache_bytes = 512 << 10;  // planes and sums of one block: half of a 1 MiB L2, the weights need the rest
constexpr index wide_block = 192;         // columns below which a row is not cut for the sake of the cache
constexpr index line = 64, row_bytes = 64 << 10;  // bytes of a cache line, and of a block of one row that is copied

template <class T> class Driver {
 public:
  Driver(const Call<T>& call, const Geometry& g)
      : call_(call), g_(g), tiles_(call.plan.isa->tiles.template of<T>()), lanes_(tiles_.lanes),
        panels_(direct::panels<T>(call.plan)), reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y) {}

  void run() {
    choose_blocks();
    const index slot_bytes = round_up((planes_size_ + sums_size_ + lanes_) * index{sizeof(T)}, 64);
    threads_ = direct::threads_within(scratch_limit(g_, call_.x.scalar, call_.n), slot_bytes, threads_);
    const Workspace scratch(0, slot_bytes, threads_);
    const Grid rows(g_, call_.n, 1, rows_, g_.ow);
    const index across = std::ssize(cuts_) - 1, blocks = rows.count() * across;
    parallel_for(
        g_.groups * blocks * parts_,
        [&](index task, int slot) {
          const index i = task / parts_, cut = i % across;
          Share b{rows.at(i % blocks / across), i / blocks, task % parts_, false};
          b.column = cuts_[cut], b.columns = cuts_[cut + 1] - b.column;
          b.here = in_place_ && b.column >= first_ && b.column < end_;
          run_block(b, scratch.template slot<T>(slot));
        },
        threads_);
  }

 private:
  // A block of outputs, of a group's channels those of a part of the panels.
  struct Share : Block {
    index group, part;
    bool here;  // is read where it lies
  };

  // ---- cutting the work --------------------------------------------------------------------------------------------
  void choose_blocks() {
    const ImageView& x = call_.x;
    const bool flat = direct::flattens(g_) && g_.oh == 1;
    const auto on_line = [](index distance) { return distance * index{sizeof(T)} % line == 0; };
    const bool alike = on_line(x.sc) && (on_line(x.sn) || call_.n == 1);
    in_place_ = flat && x.parts == 1 && reader_.in_place(0, 0, 0) && writer_.in_place(0, 0) &&
                channels_apart<T>(x.sc) && (alike || panels_.count() < direct::copied_for);
    threads_ = direct::useful_threads(g_, call_.n);
    const index past = static_cast<index>(reinterpret_cast<std::uintptr_t>(x.data) % line), width = index{sizeof(T)};
    if (in_place_ && alike && past && g_.ow * width >= 2 * line) first_ = (line - past) / width;
    end_ = in_place_ ? first_ + (g_.ow - first_) / lanes_ * lanes_ : g_.ow;
    if (flat) cut_row();
    else cut_planes();
    // What comes before and after the whole vectors has a block of its own each.
    if (first_ > 0) cuts_.push_back(0);
    for (index column = first_; column < end_; column += columns_) cuts_.push_back(column);
    if (end_ < g_.ow) cuts_.push_back(end_);
    cuts_.push_back(g_.ow);
    const index blocks = call_.n * g_.groups * ceil_div(g_.oh, rows_) * (std::ssize(cuts_) - 1);
    parts_ = blocks >= threads_ ? 1 : std::min(panels_.count(), ceil_div(threads_, blocks));
    threads_ = static_cast<int>(std::min<index>(threads_, blocks * parts_));
    choose_walk();
  }

  // In place, a few vectors of each channel are at work. Copies should be small, but weights pass seldom.
  void cut_row() {
    const index unit = tiles_.vectors(static_cast<int>(panels_.width)) * lanes_, most = (in_place_ ? 24 : 128) * lanes_;
    const index column = std::max<index>(1, g_.group_c()) * index{sizeof(T)};
    const index copied = std::max(row_bytes / column, std::min(10 * unit, cache_bytes * 2 / 3 / column));
    columns_ = in_place_ ? cache_bytes / column : copied;
    columns_ = std::clamp(columns_, unit, most) / unit * unit;
    columns_ = round_up(direct::balanced(g_.ow, columns_, call_.n * g_.groups, threads_, 2 * unit), unit);
  }

  index block_bytes(index rows, index columns) const {
    const StagedAxis down(rows, g_.stride_h, g_.kh, g_.dilation_h, 1),
        across(columns, g_.stride_w, g_.kw, g_.dilation_w, 1);
    const index sums = panels_.width * (rows * across.length + lanes_);
    return (g_.group_c() * down.cells() * across.cells() + sums) * index{sizeof(T)};
  }

  void cut_planes() {
    const index target = std::min(cache_bytes, scratch_limit(g_, call_.x.scalar, call_.n) * 3 / 4 / threads_);
    rows_ = std::min<index>(g_.oh, 4), columns_ = g_.ow;
    const auto halve = [&](index& size, index least, index unit) {
      while (block_bytes(rows_, columns_) > target && size > least)
        size = std::max(least, round_up(ceil_div(size, 2), unit));
    };
    halve(columns_, std::min(g_.ow, wide_block), 3 * lanes_);
    halve(rows_, 1, 1);
    halve(columns_, std::min<index>(g_.ow, 3 * lanes_), lanes_);
    while (rows_ < g_.oh && block_bytes(rows_ + 1, columns_) <= target) rows_++;
    rows_ = direct::balanced(g_.oh, rows_, call_.n * g_.groups * ceil_div(g_.ow, columns_), threads_, 4);
  }

  // By row wastes lanes at the ends, and rows of one vector keep few sums in flight; flat sums gaps too, and copies.
  void choose_walk() {
    const index staged = in_place_ ? std::max(first_, g_.ow - end_) : columns_;
    down_ = StagedAxis(rows_, g_.stride_h, g_.kh, g_.dilation_h, 1);
    across_ = StagedAxis(std::max<index>(1, staged), g_.stride_w, g_.kw, g_.dilation_w, 1);
    pitch_ = across_.length - shared_padding();
    across_.pitch = down_.cells() * pitch_;
    const double vectors = double(ceil_div(columns_, lanes_));
    const double by_row = vectors * double(lanes_) / double(columns_) * (1.0 + 0.5 / (vectors * vectors));
    const double flat = double(pitch_) / double(columns_) * (1.0 + 3.0 / double(panels_.k + 1));
    by_row_ = in_place_ || by_row <= flat;
    direct_ = by_row_ && writer_.in_place(0, 0);

    channel_size_ = across_.runs * across_.pitch;
    if (!channels_apart<T>(channel_size_)) channel_size_ += 64 / index{sizeof(T)};
    planes_size_ = staged == 0 ? 0 : round_up(g_.group_c() * channel_size_ + across_.length + lanes_, lanes_);
    sums_ld_ = round_up(rows_ * pitch_, lanes_);
    sums_size_ = direct_ ? 0 : panels_.width * sums_ld_;
    for (index c = 0; c < g_.group_c(); c++) {
      if (in_place_) image_.push_back(c * call_.x.sc);
      for (index i = 0; i < g_.kh; i++)
        for (index j = 0; j < g_.kw; j++)
          offsets_.push_back(c * channel_size_ + down_.offset(i) * pitch_ + across_.offset(j));
    }
  }

  // Columns that the right padding of a row shares with the left padding of the next.
  index shared_padding() const {
    if (g_.mode != PadMode::zeros || g_.stride_w != 1 || !across_.shared || columns_ < g_.ow) return 0;
    const index reach = across_.length - columns_, right = g_.ow + reach - g_.pad_left - g_.w;
    return std::max<index>(0, std::min({g_.pad_left, right, reach}));  // rows of outputs must not overlap
  }

  // ---- one block ---------------------------------------------------------------------------------------------------
  void run_block(const Share& b, T* planes) const {
    const index first = b.group * g_.group_c(), from = panels_.count() * b.part / parts_;
    if (!b.here)
      stage(reader_, planes, pitch_, down_, across_,
            {b.n, first, b.row * g_.stride_h - g_.pad_top, b.column * g_.stride_w - g_.pad_left, g_.group_c(),
             channel_size_});
    const T* x = b.here ? static_cast<const T*>(call_.x.plane(b.n, first)) + b.column : planes;
    for (index panel = from; panel < panels_.count() * (b.part + 1) / parts_; panel++) {
      add(b, panel, x, planes + planes_size_);
      if (!direct_) store(b, panel, planes + planes_size_);
    }
  }

  void add(const Share& b, index panel, const T* x, T* sums) const {
    const index kept = panels_.kept(panel), channel = b.group * g_.group_oc() + panels_.first(panel);
    const auto tile = [&](index pixels, const T* from, T* to, index ld) {
      tiles_.pixel_lane(static_cast<int>(kept), pixels, panels_.k, call_.weight + panels_.offset(b.group, panel), from,
                        (b.here ? image_ : offsets_).data(), call_.bias + channel, to, ld);
    };
    if (!by_row_) return tile((b.rows - 1) * pitch_ + b.columns, x, sums, sums_ld_);
    T* y = direct_ ? writer_.in_place(b.n, channel) + b.row * call_.y.sh + b.column : sums;
    const index y_pitch = direct_ ? call_.y.sh : pitch_, ld = direct_ ? call_.y.sc : sums_ld_;
    for (index r = 0; r < b.rows; r++) tile(b.columns, x + r * pitch_, y + r * y_pitch, ld);
  }

  void store(const Share& b, index panel, const T* sums) const {
    const index channel = b.group * g_.group_oc() + panels_.first(panel);
    writer_.write_rows(sums, pitch_,
                       {{b.n, channel, b.row, b.column, panels_.kept(panel), sums_ld_}, b.rows, b.columns});
  }

  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const index lanes_;
  const Panels panels_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  int threads_ = 1;
  index rows_ = 1, columns_ = 1, parts_ = 1;                 // parts_: shares of the panels
  index first_ = 0, end_ = 0;                                // columns whose blocks may be read in place
  std::vector<index> cuts_;                                  // columns where blocks begin, and where the last one ends
  bool in_place_ = false, by_row_ = false, direct_ = false;  // direct_: the tile writes into the output
  StagedAxis down_{1, 1, 1, 1}, across_{1, 1, 1, 1};
  index pitch_ = 0, channel_size_ = 0, planes_size_ = 0, sums_ld_ = 0, sums_size_ = 0;  // sums_ld_: between channels
  std::vector<index> offsets_, image_;  // of k, in the planes and in the image
};

}  // namespace

// Beyond, planes of even a few pixels and the table of distances take megabytes.
bool fits(const Geometry& g) { return g.group_c() * g.taps() <= 1 << 16; }

using direct::pack, direct::packed_size;

template <class T> void run(const Call<T>& call) {
  Geometry g = call.plan.g;
  Call<T> flat = call;
  direct::one_row(g, flat.x, flat.y);
  Driver<T>(flat, g).run();
}

const Algorithm algorithm = {
    "pixel_lane", "direct pixel_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::pixel_lane
