// Direct convolution with output channels in the lanes.
//   m[t][o] = bias[o] + sum_k u[k][o] * x[pixel[t] + offset[k]]      k = (channel, kh, kw)
// The tile broadcasts one value of the image at a time, and it may lie anywhere: the image is read where it is, at any
// stride, unless it must be padded, converted or fetched from memory; then some channels of a block are staged, each
// value once. At the end channels leave the lanes: m is transposed into the output.
//
// Where many panels use the same values, these are first gathered in the order of the tiles: then v and u are walked
// from end to end, and the next panel's u is fetched meanwhile (1.0 to 1.4 times as fast, by the number of outputs).
// Outputs that see the same taps follow each other in the tiles, which leave out the rest: see edges.hpp (3x3 with a
// stride of 2 to 7x7 outputs 1.03 to 1.13 times as fast, to 4x4 1.1 to 1.5, to 38x4 1.1 to 1.3; 2x2 1.08 to 2.1).
//   weights                 u[panel][k][width]               a panel is two or three vectors of output channels
//   scratch of a thread     x[channel][image][row][column]   staged
//                           v[tile][k][pixel of the tile]    gathered, where many panels read it
//                           m[panel][pixel][width]
//                           rows[lane][pixel]                what the writer must convert or spread
// Loops: part of the panels and block of pixels (some rows, or some small images), which threads take -> part of k, so
// that a panel's u and what was gathered stay in L2 -> panel -> tile of pixels. Cutting k does not change the order of
// additions: sums continue from m. Source: M. Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129.
#include <span>
#include "direct.hpp"
#include "edges.hpp"

namespace konv::output_lane {
namespace {

constexpr index most_pixels = 384, fair_pixels = 72;  // of a block; enough that weights from L3 do not hold it up
constexpr index k_step = 384, gathered_step = 1024, edge_step = 192;  // of the sum
constexpr index staged_bytes = 96 << 10, gathered_bytes = 384 << 10, sums_bytes = 256 << 10;
constexpr index gathered_for = 10;  // panels: so many repay that what they read was brought into their order first

// Outputs of a block, and rows of the kernel in a part of k.
struct Blocking {
  index images, rows, columns, kernel_rows;
  index pixels() const { return images * rows * columns; }

  Blocking(const Geometry& g, index n, int threads) {
    columns = ceil_div(g.ow, ceil_div(g.ow, most_pixels));
    rows = direct::balanced(g.oh, std::max<index>(1, most_pixels / columns), n * g.groups * ceil_div(g.ow, columns),
                            threads, ceil_div(fair_pixels, columns));
    images = 1;
    if (rows * columns == g.oh * g.ow)
      images = direct::balanced(n, std::max<index>(1, most_pixels / (rows * columns)), g.groups, threads,
                                ceil_div(fair_pixels, rows * columns));
    const index cuts = g.taps() > 2 * k_step ? ceil_div(g.kh, std::max<index>(1, k_step / g.kw)) : 1;
    kernel_rows = ceil_div(g.kh, cuts);
  }
};

// Outputs that see the same taps, and the steps of a part of k that are these.
struct Seen {
  Run rows, columns;
  std::vector<Place> steps;
};

template <class T> class Driver {
 public:
  Driver(const Call<T>& call, const Geometry& g)
      : call_(call), g_(g), tiles_(direct::tiles<T>(call.plan)), lanes_(tiles_.lanes),
        panels_(direct::panels<T>(call.plan)), writer_(*call.plan.isa, call.y),
        threads_(direct::useful_threads(g_, call.n)), b_(g_, call.n, threads_),
        grid_(g_, call.n, b_.images, b_.rows, b_.columns), edges_(g_),
        x_(*call.plan.isa, call.x, g_, grid_, b_.kernel_rows, edges_.time < 1),
        gathers_(panels_.count() >= gathered_for && panels_.width == 2 * lanes_), taps_(b_.kernel_rows * g_.kw) {
    // Channels in a part of k, and shares of the panels. Tiles of few outputs walk u often: it stays in L1.
    const index fit = std::min(gathered_step, gathered_bytes / index{sizeof(T)} / b_.pixels());
    const index step = edges_.time < 1 ? static_cast<index>(edge_step / edges_.time) : gathers_ ? fit : k_step;
    index most = std::max<index>(1, std::min(step, fit) / taps_);
    if (!x_.in_place()) most = std::clamp<index>(staged_bytes / index{sizeof(T)} / x_.channel_size(), 1, most);
    const index all = std::max<index>(1, g_.group_c());
    const index whole = round_up(ceil_div(all, ceil_div(all, most)), call_.x.parts);  // elements
    channels_ = taps_ < g_.taps() ? 1 : whole;

    const index blocks = grid_.count * g_.groups;
    const index panels = panels_.count(), worth = gathers_ ? 32 : x_.in_place() ? 2 : 4;  // gathering is work, too
    const index least = std::min(worth, panels * blocks / threads_);                      // every thread gets some
    parts_ = ceil_div(panels, direct::balanced(panels, panels, blocks, threads_, least));
    parts_ = std::clamp(b_.pixels() * panels_.channels * index{sizeof(T)} / sums_bytes, parts_, panels);
    for (const Run& h : edges_.rows)
      for (const Run& w : edges_.columns) add_seen(h, w);
  }

  void run() {
    const index pixels = b_.pixels(), places = pixels * index{sizeof(Place)} / index{sizeof(T)};
    const index staged = round_up(channels_ * x_.channel_size(), lanes_);
    const index gathered = gathers_ ? round_up(pixels * channels_ * taps_, lanes_) : 0;
    const index sums = pixels * panels_.width * (one_part() ? 1 : ceil_div(panels_.count(), parts_));
    const index all = places + staged + gathered + sums + lanes_ * pixels, blocks = grid_.count;
    const index count = blocks * g_.groups;
    const bool by_panels = count < direct::blocks_a_thread * threads_;  // see pixel_lane.cpp
    each_task<T>(count * parts_, threads_, all, call_.scratch_limit(), [&](index task, int, T* place) {
      T *x = place + places, *v = x + staged, *m = v + gathered;
      const index i = by_panels ? task % count : task / parts_, part = by_panels ? task / count : task % parts_;
      run_block({grid_.at(i % blocks), i / blocks, part}, reinterpret_cast<Place*>(place), x, v, m, m + sums);
    });
  }
 private:
  bool one_part() const { return channels_ >= g_.group_c() && taps_ == g_.taps(); }

  // The largest is the first.
  void add_seen(const Run& h, const Run& w) {
    Seen& s = seen_.emplace_back(Seen{h, w, {}});
    for (index c = 0; c < channels_; c++)
      for (index i = h.tap; i < std::min(h.tap + h.taps, b_.kernel_rows); i++)
        for (index j = w.tap; j < w.tap + w.taps; j++)
          s.steps.push_back({x_.steps.channel(c, call_.x.parts) + i * x_.steps.tap_row + j * x_.steps.tap,
                             c * taps_ + i * g_.kw + j});
    if (s.steps.size() > seen_.front().steps.size()) std::swap(s, seen_.front());
  }

  // Those of a block: columns of the tiles; and what is gathered for them.
  struct Part {
    index columns, steps;
    const Place *column, *step;
    T* v;
  };
  using Parts = Part[Edges::most_runs * Edges::most_runs];

  // With `count` products of an output.
  std::span<const Part> parts_of(const Share& b, index count, Place* column, T* v, Parts& parts) const {
    for (std::size_t i = 0; i < seen_.size(); i++) {
      const Seen& s = seen_[i];
      const index columns = x_.places(b, s.rows, s.columns, column);
      const index steps = std::ssize(s.steps) * count / (channels_ * taps_);
      parts[i] = {columns, steps, column, s.steps.data(), v};
      column += columns, v += columns * steps;
    }
    return {parts, seen_.size()};
  }

  void run_block(const Share& b, Place* column, T* staged, T* gathered, T* sums, T* rows) const {
    const index pixels = b.images * b.rows * b.columns;
    const index from = panels_.count() * b.part / parts_, to = panels_.count() * (b.part + 1) / parts_;
    Parts all;
    for (index c = 0; c == 0 || c < g_.group_c(); c += channels_)
      for (index row = 0; row < g_.kh; row += b_.kernel_rows) {
        const index channels = std::min(channels_, g_.group_c() - c), k = c * g_.taps() + row * g_.kw;
        const index count = channels * std::min(b_.kernel_rows, g_.kh - row) * g_.kw;
        const T* x = x_.load(staged, b, b.group * g_.group_c() + c, channels, row);
        const std::span<const Part> parts = parts_of(b, count, column, gathered, all);
        for (const Part& p : parts)
          if (gathers_) tiles_.gather(p.columns, p.steps, x, p.column, p.step, p.v);
        for (index panel = from; panel < to; panel++) {
          T* m = sums + (one_part() ? 0 : (panel - from) * panels_.width * pixels);
          const T* next = panel + 1 < to ? weights(b.group, panel + 1, k) : weights(b.group, from, k + count);
          add(parts, b.group, panel, k, x, m, next);
          if (k + count == panels_.k) store(b, panel, m, rows);
        }
      }
  }

  const T* weights(index group, index panel, index k) const {
    return call_.weight + panels_.offset(group, panel) + k * panels_.stored(panel);
  }

  // The products from k on, of a panel; `next` are the weights that come then.
  void add(std::span<const Part> parts, index group, index panel, index k, const T* x, T* m, const T* next) const {
    const index width = panels_.stored(panel);
    const int vectors = static_cast<int>(width / lanes_);
    alignas(64) T bias[64] = {};  // the tile loads whole vectors
    if (k == 0) std::copy_n(call_.bias + group * g_.group_oc() + panels_.first(panel), panels_.kept(panel), bias);
    for (const Part& p : parts) {
      const OutputLane<T> sum{p.steps, weights(group, panel, k), m, width, k ? m : bias, k ? width : 0};
      if (!gathers_) tiles_.output_lane_at(vectors, p.columns, sum, x, p.column, p.step);
      else tiles_.output_lane_gathered(vectors, p.columns, sum, p.v, p.column, p.step, std::exchange(next, nullptr));
    }
  }

  void store(const Share& b, index panel, const T* m, T* rows) const {
    const index width = panels_.stored(panel);
    for (index n = b.n; n < b.n + b.images; n++, m += b.rows * b.columns * width)
      for (index lane = 0; lane < panels_.kept(panel); lane += lanes_) {
        const index channel = b.group * g_.group_oc() + panels_.first(panel) + lane;
        const index channels = std::min(lanes_, panels_.kept(panel) - lane);
        writer_.write_lanes(m + lane, width, {{n, channel, b.row, b.column, channels}, b.rows, b.columns}, rows);
      }
  }

  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const index lanes_;
  const Panels panels_;
  const RowWriter<T> writer_;
  int threads_;
  const Blocking b_;
  const Grid grid_;
  const Edges edges_;
  const Windows<T> x_;
  const bool gathers_;
  const index taps_;  // in a part of k
  index channels_ = 1, parts_ = 1;
  std::vector<Seen> seen_;
};
}  // namespace

bool fits(const Geometry&) { return true; }

using direct::pack, direct::packed_size;
template <class T> void run(const Call<T>& call) {
  const ImageView x = direct::seen(call.plan, call.x, &ImageView::sc);
  Driver<T>({call.plan, call.weight, call.bias, x, call.y, call.n}, direct::seen(call.plan)).run();
}

const Algorithm algorithm = {
    "output_lane", "direct output_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};
}  // namespace konv::output_lane
