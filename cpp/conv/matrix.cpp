// Direct convolution as a matrix product whose right side exists for one block of pixels at a time.
//
//   y[o][t] = bias[o] + sum_k w[o][k] * v[k][t]     k = (channel, kh, kw); pixels t are counted through rows and images
//
// v is the im2col matrix of the block, cut into panels as narrow as the register tile:
//
//   v[panel][k][width]     plan matrix        pixels in the lanes: `width` is two or three vectors; the tile broadcasts
//                                             weights and writes into the output
//                          plan output_lane   output channels in the lanes, for few pixels, of which a vector would be
//                                             mostly empty: the tile broadcasts up to `width` pixels; its sums are
//                                             transposed into the output while they are in L1
//
// A panel is one run of memory: products never step from channel to channel of the image, whose lines often evict each
// other.
//
// Many blocks: each thread builds and uses its own v. Few blocks: all threads build one v together, then share out the
// output channels, so that a single 7x7 map keeps every core busy and v is built once.
//
// Loops: block -> part of k (v within half of L2) -> some panels of weights (within L1 or L2) -> 256 of k -> panels of
// v (L1) -> the weights' panels. Cutting k does not change the order of additions: sums continue from the output.
// Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008; the im2col matrix
// is K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document Processing",
// 2006.
#include "../workspace.hpp"
#include "direct.hpp"
#include "phases.hpp"

namespace konv::matrix {
namespace {

constexpr index k_step = 256;               // of a panel of v that stays in L1
constexpr index own_bytes = 192 << 10;      // v of one thread
constexpr index shared_bytes = 4 << 20;     // v that all threads build together
constexpr index plane_bytes = 128 << 10;    // padded planes of one channel
constexpr index weights_in_l2 = 256 << 10;  // a narrow block reads all of them for few pixels
constexpr index most_columns = 256;
constexpr index panels_together = 8;  // of weights

// One row of consecutive output pixels.
struct Segment {
  index n, row, column, count, at;  // at: first pixel of the block
};

template <class F>
void for_segments(const Geometry& g, index first, index last, F&& f) {
  for (index q = first; q < last;) {
    const index column = q % g.ow, row = q / g.ow % g.oh, n = q / g.ow / g.oh;
    const index count = std::min(g.ow - column, last - q);
    f(Segment{n, row, column, count, q - first});
    q += count;
  }
}

template <class T>
Panels weight_panels(const Plan& plan) {
  if (plan.algorithm != &output_lane::algorithm) return direct::pixel_panels<T>(plan);
  const index lanes = plan.isa->tiles.of<T>().lanes;
  return {plan.g.group_oc(), plan.g.group_c() * plan.g.taps(), 2 * lanes, lanes};
}

template <class T>
class Product {
 public:
  explicit Product(const Call<T>& call)
      : call_(call),
        g_(call.plan.g),
        x_(call.x),
        y_(call.y),
        tiles_(call.plan.isa->tiles.template of<T>()),
        lanes_(tiles_.lanes),
        pixel_lanes_(call.plan.algorithm != &output_lane::algorithm),
        weights_(weight_panels<T>(call.plan)),
        phases_(g_, most_columns, most_columns),
        reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y) {}

  void run() {
    choose_blocks();
    const index bytes = sizeof(T), channels = round_up(weights_.channels, lanes_);
    const index bias_size = pixel_lanes_ ? 0 : g_.groups * channels;
    const index sums_size = direct_ ? 0 : pitch_ * (keep_sums_ ? channels : weights_.width);
    const index stage_size = pixel_lanes_ ? 0 : lanes_ * pitch_;  // what leaves through the writer
    v_size_ = panel_count() * panel_size_;
    const index plane_size = round_up((by_planes_  ? phases_.channel_size()
                                       : in_place_ ? 0
                                                   : columns_) +
                                          lanes_,
                                      lanes_);
    const index together = bias_size + (shared_ ? v_size_ + (keep_sums_ ? sums_size : 0) : 0);
    const index own = plane_size + stage_size + (shared_ ? 0 : v_size_) + (shared_ && keep_sums_ ? 0 : sums_size);
    const index slot_bytes = round_up(own * bytes, 64), shared = round_up(together * bytes, 64);
    threads_ = direct::threads_within(direct::scratch_limit(call_), shared, slot_bytes, threads_);
    const Workspace scratch(shared, slot_bytes, threads_);
    T* bias = scratch.template shared<T>();
    if (!pixel_lanes_) pad_bias(bias);
    bias_ = pixel_lanes_ ? call_.bias : bias;
    const auto buffers = [&](int slot) {
      T* p = scratch.template slot<T>(slot);
      Buffers b{p, p + plane_size, p + plane_size + stage_size, p + plane_size + stage_size + sums_size};
      if (shared_) b.v = bias + bias_size;
      if (shared_ && keep_sums_) b.sums = bias + bias_size + v_size_;
      return b;
    };
    const index blocks = ceil_div(span_, columns_), tasks = spans_ * g_.groups * blocks;
    const auto block_of = [&](index task) {
      const index start = task % blocks * columns_, span = task / blocks / g_.groups * span_;
      return Block{task / blocks % g_.groups, span + start, span + std::min(start + columns_, span_)};
    };
    if (shared_) {
      for (index task = 0; task < tasks; task++) run_together(block_of(task), buffers);
    } else {
      parallel_for(tasks, [&](index task, int slot) { run_alone(block_of(task), buffers(slot)); }, threads_);
    }
  }

 private:
  struct Block {
    index group, first, last;  // pixels
  };
  struct Buffers {
    T *plane, *stage, *sums, *v;
  };
  index panel_count() const { return ceil_div(columns_, width_); }

  // ---- cutting the work --------------------------------------------------------------------------------------------
  void choose_blocks() {
    const index pixels = g_.oh * g_.ow, bytes = sizeof(T), k = std::max<index>(1, weights_.k);
    threads_ = direct::useful_threads(g_, call_.n);
    const index unit = pixel_lanes_ ? tiles_.vectors(static_cast<int>(weights_.width)) * lanes_ : tiles_.o_columns;
    direct_ = pixel_lanes_ && y_.plane_contiguous() && writer_.in_place(0, 0) && (call_.n == 1 || pixels >= 8 * unit);
    span_ = direct_ ? pixels : call_.n * pixels;
    spans_ = direct_ ? call_.n : 1;
    in_place_ = direct::flattens(g_) && reader_.in_place(0, 0, 0) && x_.parts == 1;

    // Own panels when they keep all threads busy: many, or exactly shared out.
    const index limit = direct::scratch_limit(call_) * 3 / 4;
    k_part_ = std::min(k, direct_ ? k_step : std::max(k_step, own_bytes / bytes / (2 * unit)));
    const auto columns_within = [&](index size) {
      return std::clamp(size / bytes / k_part_ / unit * unit, index(0), most_columns / unit * unit);
    };
    const index own = columns_within(std::min(own_bytes, limit / threads_));
    const index least = weights_.group_size() * bytes > weights_in_l2 ? 4 * unit : 2 * unit;
    const index others = spans_ * g_.groups;
    columns_ = own >= unit ? direct::balanced(span_, own, others, threads_, least) : 0;
    const index tasks = columns_ ? ceil_div(span_, columns_) * others : 0;
    shared_ = threads_ > 1 && !(tasks >= 4 * threads_ || (tasks && tasks % threads_ == 0 && columns_ >= 2 * unit));
    if (shared_ || !columns_) {
      k_part_ = std::min(k, direct_ ? k_step : k);
      const index size = std::min(shared_bytes, limit / 2);
      columns_ = std::min(span_, std::max(unit, columns_within(size)));
      columns_ = ceil_div(span_, ceil_div(span_, columns_));
      k_part_ = std::min(k_part_, std::max<index>(1, size / bytes / (columns_ + unit)));
    } else {
      threads_ = static_cast<int>(std::min<index>(threads_, tasks));
    }
    width_ = pixel_lanes_ ? unit : ceil_div(columns_, ceil_div(columns_, unit));
    if (pixel_lanes_ && columns_ < span_) columns_ = round_up(columns_, lanes_);
    pitch_ = columns_ + lanes_;  // not a power of two
    choose_build();
    keep_sums_ = !direct_ && k_part_ < weights_.k;
    panel_size_ = width_ * k_part_ + lanes_;  // room for a vector past the end
    if (pixel_lanes_)
      for (index i = 0; i < std::min(k_part_, k_step); i++) steps_.push_back(i * width_);
  }

  void choose_build() {
    if (in_place_) {
      for (index c = 0; c < k_part_; c++) taps_.push_back(c * x_.sc);
      return;
    }
    narrow_ = columns_ < g_.ow;
    const index rows = narrow_ ? 1 : std::min(g_.oh, (columns_ - 1) / g_.ow + 2);
    phases_.lay_out(rows, (narrow_ ? columns_ : g_.ow) + phases_.across.reach);
    by_planes_ = g_.taps() <= k_part_ && phases_.channel_size() * index(sizeof(T)) <= plane_bytes;
    if (by_planes_) k_part_ -= k_part_ % g_.taps(), phases_.append_offsets(taps_, 0);
  }

  // ---- one block ---------------------------------------------------------------------------------------------------
  void run_alone(const Block& b, const Buffers& to) const {
    const index panels = ceil_div(b.last - b.first, width_);
    for (index k = 0; k == 0 || k < weights_.k; k += k_part_) {
      const index last_k = std::min(k + k_part_, weights_.k);
      build(b, 0, panels, k, last_k, to);
      for (index w = 0; w < weights_.count(); w += panels_together)
        multiply(b, w, std::min(w + panels_together, weights_.count()), k, last_k, to);
    }
  }

  template <class F>
  void run_together(const Block& b, const F& buffers) const {
    const index panels = ceil_div(b.last - b.first, width_), groups = std::min<index>(weights_.count(), 4 * threads_);
    for (index k = 0; k == 0 || k < weights_.k; k += k_part_) {
      const index last_k = std::min(k + k_part_, weights_.k);
      parallel_for(panels, [&](index p, int slot) { build(b, p, p + 1, k, last_k, buffers(slot)); }, threads_);
      parallel_for(
          groups,
          [&](index i, int slot) {
            multiply(b, weights_.count() * i / groups, weights_.count() * (i + 1) / groups, k, last_k, buffers(slot));
          },
          threads_);
    }
  }

  // The tile loads whole vectors of bias.
  void pad_bias(T* bias) const {
    const index padded = round_up(weights_.channels, lanes_);
    for (index group = 0; group < g_.groups; group++) {
      std::copy_n(call_.bias + group * weights_.channels, weights_.channels, bias + group * padded);
      std::fill(bias + group * padded + weights_.channels, bias + (group + 1) * padded, T(0));
    }
  }

  // ---- the image's side --------------------------------------------------------------------------------------------
  // Cells of a plane for the pixels from t on, cut where panels end.
  void cut(std::vector<Run>& runs, index from, index t, index count) const {
    while (count > 0) {
      const index part = std::min(count, width_ - t % width_);
      runs.push_back({from, t / width_ * panel_size_ + t % width_, part});
      from += part, t += part, count -= part;
    }
  }
  void gather(const T* plane, const index* taps, index count, const std::vector<Run>& runs, T* v) const {
    tiles_.gather_taps(plane, taps, count, runs.data(), static_cast<index>(runs.size()), v, width_);
  }

  // v[panel][k - first_k][t] of panels [from, to).
  void build(const Block& b, index from, index to, index first_k, index last_k, const Buffers& buffers) const {
    const index first = b.first + from * width_, last = std::min(b.last, b.first + to * width_);
    const index taps = in_place_ ? last_k - first_k : by_planes_ ? g_.taps() : 1;
    std::vector<Run> runs;
    if (!in_place_ && !by_planes_) {
      cut(runs, 0, first - b.first, last - first);
      for (index k = first_k; k < last_k; k++) {
        read_tap(b.group, k, first, last, buffers.plane);
        gather(buffers.plane, zero_, 1, runs, buffers.v + (k - first_k) * width_);
      }
      return;
    }
    // Blocks narrower than a row take one stretch of a row at a time, others all their rows of an image.
    const index image = g_.oh * g_.ow, stretch = narrow_ ? g_.ow : image;
    for (index q = first; q < last;) {
      const index end = std::min(last, (q / stretch + 1) * stretch), n = q / image, top = q % image / g_.ow;
      const index column = narrow_ ? q % g_.ow : 0, columns = narrow_ ? end - q : g_.ow;
      const index rows = (end - 1) % image / g_.ow - top + 1;
      runs.clear();
      for_segments(g_, q, end, [&](const Segment& s) {
        const index at = in_place_ ? s.row * x_.sh + s.column : (s.row - top) * phases_.pitch + s.column - column;
        cut(runs, at, q + s.at - b.first, s.count);
      });
      for (index k = first_k; k < last_k; k += taps) {
        const index c = b.group * g_.group_c() + k / (in_place_ ? 1 : taps);
        if (!in_place_) phases_.load(reader_, n, c, top, rows, column, columns, buffers.plane);
        gather(in_place_ ? reader_.in_place(n, c, 0) : buffers.plane, taps_.data(), taps, runs,
               buffers.v + (k - first_k) * width_);
      }
      q = end;
    }
  }

  // One tap straight from the image, for kernels so large that their planes would be too.
  void read_tap(index group, index k, index first, index last, T* row) const {
    const index kw = k % g_.kw, kh = k / g_.kw % g_.kh, c = group * g_.group_c() + k / g_.taps();
    for_segments(g_, first, last, [&](const Segment& s) {
      reader_.read(row + s.at, s.n, c, s.row * g_.stride_h + kh * g_.dilation_h - g_.pad_top,
                   s.column * g_.stride_w + kw * g_.dilation_w - g_.pad_left, g_.stride_w, s.count);
    });
  }

  // ---- products ----------------------------------------------------------------------------------------------------
  // Panels [from, to) of the weights with all of v; the last part of k stores.
  void multiply(const Block& b, index from, index to, index first_k, index last_k, const Buffers& buffers) const {
    const bool last = last_k == weights_.k;
    if (!pixel_lanes_ || !direct_) {
      for (index w = from; w < to; w++) {
        T* sums = buffers.sums + (keep_sums_ ? weights_.first(w) * pitch_ : 0);
        for_steps(first_k, last_k, [&](index k, index count) {
          if (pixel_lanes_) pixel_tiles(b, w, k, k - first_k, count, buffers.v, sums, pitch_);
          else output_tiles(b, w, k, k - first_k, count, buffers.v, sums);
        });
        if (last && pixel_lanes_) store_rows(b, w, sums);
        if (last && !pixel_lanes_) store_lanes(b, w, sums, buffers.stage);
      }
      return;
    }
    const index plane = g_.oh * g_.ow, n = b.first / plane;
    for_steps(first_k, last_k, [&](index k, index count) {
      for (index p = 0; p < ceil_div(b.last - b.first, width_); p++)
        for (index w = from; w < to; w++)
          pixel_tile(b, w, p, k, k - first_k, count, buffers.v,
                     writer_.in_place(n, b.group * g_.group_oc() + weights_.first(w)) + (b.first - n * plane), y_.sc);
    });
  }

  template <class F>
  static void for_steps(index first, index last, F&& f) {
    for (index k = first; k == first || k < last; k += k_step) f(k, std::min(k_step, last - k));
  }

  void pixel_tiles(const Block& b, index w, index k, index at, index count, const T* v, T* y, index ldy) const {
    for (index p = 0; p < ceil_div(b.last - b.first, width_); p++) pixel_tile(b, w, p, k, at, count, v, y, ldy);
  }
  void pixel_tile(const Block& b, index w, index p, index k, index at, index count, const T* v, T* y, index ldy) const {
    const index rows = weights_.kept(w);
    tiles_.pixel_lane(static_cast<int>(rows), std::min(width_, b.last - b.first - p * width_), count,
                      call_.weight + weights_.offset(b.group, w) + k * rows, v + p * panel_size_ + at * width_,
                      steps_.data(), k ? nullptr : bias_ + b.group * weights_.channels + weights_.first(w),
                      y + p * width_, ldy);
  }
  void output_tiles(const Block& b, index w, index k, index at, index count, const T* v, T* sums) const {
    const index stored = weights_.stored(w), all = b.last - b.first;
    const T* u = call_.weight + weights_.offset(b.group, w) + k * stored;
    const T* start = bias_ + b.group * round_up(weights_.channels, lanes_) + weights_.first(w);
    for (index p = 0; p * width_ < all; p++) {
      T* m = sums + p * width_ * stored;
      tiles_.output_lane(static_cast<int>(stored / lanes_), std::min(width_, all - p * width_), count, u,
                         v + p * panel_size_ + at * width_, width_, m, stored, k ? m : start, k ? stored : 0);
    }
  }

  // ---- sums into the output ----------------------------------------------------------------------------------------
  void store_rows(const Block& b, index w, const T* sums) const {
    for_segments(g_, b.first, b.last, [&](const Segment& s) {
      for (index r = 0; r < weights_.kept(w); r++)
        writer_.write(sums + r * pitch_ + s.at, s.n, b.group * g_.group_oc() + weights_.first(w) + r, s.row, s.column,
                      s.count);
    });
  }
  void store_lanes(const Block& b, index w, const T* sums, T* stage) const {
    const index stored = weights_.stored(w), plane = g_.oh * g_.ow;
    for (index lane = 0; lane < weights_.kept(w); lane += lanes_) {
      const index channel = b.group * g_.group_oc() + weights_.first(w) + lane;
      const int channels = static_cast<int>(std::min(lanes_, weights_.kept(w) - lane));
      if (y_.plane_contiguous() && writer_.in_place(0, 0)) {
        for (index q = b.first; q < b.last;) {
          const index n = q / plane, end = std::min(b.last, (n + 1) * plane);
          tiles_.transpose_store(sums + (q - b.first) * stored + lane, stored, end - q,
                                 writer_.in_place(n, channel) + (q - n * plane), y_.sc, channels);
          q = end;
        }
        continue;
      }
      tiles_.transpose_store(sums + lane, stored, b.last - b.first, stage, pitch_, channels);
      for_segments(g_, b.first, b.last, [&](const Segment& s) {
        for (int c = 0; c < channels; c++)
          writer_.write(stage + c * pitch_ + s.at, s.n, channel + c, s.row, s.column, s.count);
      });
    }
  }

  static constexpr index zero_[1] = {0};
  const Call<T>& call_;
  const Geometry& g_;
  const ImageView& x_;
  const OutputView& y_;
  const TileTable<T>& tiles_;
  const index lanes_;
  const bool pixel_lanes_;
  const Panels weights_;
  PhasePlanes phases_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const T* bias_ = nullptr;
  std::vector<index> taps_;     // distances of a channel's taps in its planes; of the channels in place
  std::vector<index> steps_;    // distances of k in a panel of v
  index span_ = 0, spans_ = 0;  // pixels that blocks cut, and how often: an image, or all of them
  index columns_ = 0, width_ = 0, k_part_ = 0, pitch_ = 0, panel_size_ = 0, v_size_ = 0;
  bool direct_ = false;     // the tile writes into the output
  bool in_place_ = false;   // channels are taps of the image as it lies in memory
  bool by_planes_ = false;  // v is gathered from padded planes
  bool narrow_ = false;     // a block is narrower than a row of outputs
  bool shared_ = false;     // all threads build one v
  bool keep_sums_ = false;  // of all channels, from one part of k to the next
  int threads_ = 1;
};

}  // namespace

bool fits(const Geometry&) { return true; }

template <class T>
index packed_size(const Plan& plan) {
  return checked_mul(plan.g.groups, weight_panels<T>(plan).group_size());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  pack_panels<T>(*plan.isa, w, plan.g, weight_panels<T>(plan), dst);
}

template <class T>
void run(const Call<T>& call) {
  Product<T>(call).run();
}

const Algorithm algorithm = {
    "matrix", "direct matrix", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::matrix

namespace konv {

const Algorithm output_lane::algorithm = {"output_lane", "direct output_lane", matrix::fits, matrix::algorithm.driver};

}  // namespace konv
