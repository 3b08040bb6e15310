// Direct convolution with output channels in the lanes: for few pixels and long sums (7x7 maps, kernels as large as the
// image, patch stems), where a vector of pixels would be mostly empty.
//
// Idea: implicit matrix product. The im2col matrix exists for one block of pixels at a time:
//
//   v[k][t]   k = (channel, kh, kw), t = pixel of the block; pixels are counted through rows and images
//   u[panel][k][lane]                the packed weights, two vectors of output channels a panel
//   m[t][lane] = bias + sum_k u * v  the tile's sums; transposed into the output while they are in L1
//
// Many blocks: each thread builds and uses its own v. Few blocks: all threads build one v together, then share out the
// panels of output channels, so that a single 7x7 map keeps every core busy and v is built once.
//
// Loops: block -> [part of k, when v would outgrow its scratch] -> panel -> 512 of k (u passes through L1, v through
// L2)
// -> groups of columns. Cutting k does not change the order of additions: the sums continue from m.
// Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008; the im2col matrix
// is K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document Processing",
// 2006.
#include "../workspace.hpp"
#include "direct.hpp"
#include "phases.hpp"

namespace konv::output_lane {
namespace {

constexpr index k_step = 256;               // u: 256 x 2 vectors are 16 KiB with AVX2, 32 KiB with AVX-512
constexpr index panel_bytes = 640 << 10;    // v of one thread
constexpr index shared_panel = 4 << 20;     // v that all threads build together
constexpr index plane_bytes = 128 << 10;    // padded planes of one channel
constexpr index weights_in_l2 = 256 << 10;  // a narrow block reads all of them for few pixels
constexpr index most_columns = 168;

template <class T>
Panels output_panels(const Plan& plan) {
  const index lanes = plan.isa->tiles<T>().lanes;
  return {plan.g.group_oc(), plan.g.group_c() * plan.g.taps(), 2 * lanes, lanes};
}

// One row of consecutive output pixels.
struct Segment {
  index n, row, column, count, at;  // at: first column of the block
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
class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call),
        g_(call.plan.g),
        x_(call.x),
        y_(call.y),
        tiles_(call.plan.isa->template tiles<T>()),
        lanes_(tiles_.lanes),
        panels_(output_panels<T>(call.plan)),
        phases_(g_, most_columns, most_columns) {
    flatten();
  }

  void run() {
    const RowReader<T> reader(*call_.plan.isa, x_, g_.mode);
    const RowWriter<T> writer(*call_.plan.isa, y_);
    reader_ = &reader, writer_ = &writer;
    choose_blocks();
    const index v_size = k_part_ * pitch_, bias_size = g_.groups * round_up(panels_.channels, lanes_);
    const index m_size = columns_ * 2 * lanes_ + lanes_ * columns_;  // sums, and what leaves through the writer
    const index plane_size = by_planes_ ? round_up(phases_.channel_size() + lanes_, lanes_) : 0;
    const bool all_sums = k_part_ < panels_.k;
    const index sums_size = all_sums ? columns_ * round_up(panels_.channels, panels_.width) : 0;
    const index bytes = sizeof(T);
    const index shared_bytes = round_up((bias_size + (shared_ ? v_size : 0) + sums_size) * bytes, 64);
    const index slot_bytes = round_up((m_size + plane_size + (shared_ ? 0 : v_size)) * bytes, 64);
    threads_ = direct::threads_within(direct::scratch_limit(call_), shared_bytes, slot_bytes, threads_);
    Workspace scratch(shared_bytes, slot_bytes, threads_);
    T* bias = scratch.shared<T>();
    pad_bias(bias);
    for_blocks([&](index group, index first, index last, int slot) {
      T* own = scratch.slot<T>(slot);
      T* v = own + m_size + plane_size;
      build(group, first, last, 0, panels_.k, v, own + m_size);
      for (index p = 0; p < panels_.count(); p++) {
        multiply(group, p, last - first, 0, panels_.k, v, bias, own);
        store(group, p, first, last, own, own + columns_ * 2 * lanes_);
      }
    });
    T* v = bias + bias_size;
    T* sums = all_sums ? v + v_size : nullptr;
    if (shared_) run_shared(scratch, bias, v, sums, m_size);
  }

 private:
  // Pixels of a 1x1 convolution need no rows: longer segments.
  void flatten() {
    const bool joined = (x_.sh == x_.w * x_.sw || x_.h == 1) && (y_.sh == y_.w * y_.sw || y_.h == 1);
    if (!direct::flattens(g_) || !joined) return;
    g_.w = g_.ow = x_.w = y_.w = g_.h * g_.w;
    g_.h = g_.oh = x_.h = y_.h = 1;
  }

  void choose_blocks() {
    const index k = std::max<index>(1, panels_.k), unit = tiles_.o_columns, bytes = sizeof(T);
    pixels_ = call_.n * g_.oh * g_.ow;
    threads_ = direct::useful_threads(g_, call_.n);
    const index limit = direct::scratch_limit(call_) * 3 / 4;
    const auto columns_within = [&](index size) {
      return std::clamp(size / bytes / k / unit * unit, index(0), most_columns / unit * unit);
    };
    const index own = columns_within(std::min(panel_bytes, limit / threads_));
    const index least = panels_.group_size() * bytes > weights_in_l2 ? 4 * unit : 2 * unit;
    columns_ = own >= 2 * unit ? direct::balanced(pixels_, own, g_.groups, threads_, least) : 0;
    blocks_ = columns_ ? ceil_div(pixels_, columns_) : 0;
    k_part_ = panels_.k;
    // Own panels when they keep all threads busy: many, or exactly shared out.
    const index tasks = blocks_ * g_.groups;
    shared_ =
        !(columns_ && (tasks >= 4 * threads_ || (tasks % threads_ == 0 && (columns_ >= 2 * unit || threads_ == 1))));
    if (shared_) {
      const index size = std::min(shared_panel, limit / 2);
      columns_ = std::min(pixels_, std::max(unit, columns_within(size)));
      blocks_ = ceil_div(pixels_, columns_);
      columns_ = ceil_div(pixels_, blocks_);
      k_part_ = std::min(panels_.k, std::max<index>(1, size / bytes / (columns_ + lanes_)));
    } else {
      threads_ = static_cast<int>(std::min<index>(threads_, tasks));
    }
    pitch_ = columns_ + lanes_;  // room for a vector past the end; and not a power of two
    choose_build();
  }

  void choose_build() {
    narrow_ = columns_ < g_.ow;
    const index rows = narrow_ ? 1 : std::min(g_.oh, (columns_ - 1) / g_.ow + 2);
    phases_.lay_out(rows, (narrow_ ? columns_ : g_.ow) + phases_.across.reach);
    by_planes_ = g_.taps() > 1 && g_.taps() <= k_part_ && phases_.channel_size() * index(sizeof(T)) <= plane_bytes;
    if (!by_planes_) return;
    k_part_ -= k_part_ % g_.taps();
    phases_.append_offsets(offsets_, 0);
  }

  template <class F>
  void for_blocks(F&& f) {
    if (shared_) return;
    parallel_for(
        blocks_ * g_.groups,
        [&](index task, int slot) {
          const index group = task % g_.groups, block = task / g_.groups, first = block * columns_;
          f(group, first, std::min(first + columns_, pixels_), slot);
        },
        threads_);
  }

  void run_shared(const Workspace& scratch, const T* bias, T* v, T* sums, index m_size) {
    const index panel_sums = columns_ * panels_.width;
    for (index task = 0; task < blocks_ * g_.groups; task++) {
      const index group = task % g_.groups, first = task / g_.groups * columns_;
      const index last = std::min(first + columns_, pixels_);
      for (index k = 0; k == 0 || k < panels_.k; k += k_part_) {
        const index k_last = std::min(k + k_part_, panels_.k), unit = by_planes_ ? g_.taps() : 1;
        const index units = (k_last - k) / unit, pieces = std::min<index>(4 * threads_, units);
        parallel_for(
            pieces,
            [&](index i, int slot) {
              const index from = k + units * i / pieces * unit, to = k + units * (i + 1) / pieces * unit;
              build(group, first, last, from, to, v + (from - k) * pitch_, scratch.slot<T>(slot) + m_size);
            },
            threads_);
        parallel_for(
            panels_.count(),
            [&](index p, int slot) {
              T* own = scratch.slot<T>(slot);
              T* m = sums ? sums + p * panel_sums : own;
              multiply(group, p, last - first, k, k_last, v, bias, m);
              if (k_last == panels_.k) store(group, p, first, last, m, own + columns_ * 2 * lanes_);
            },
            threads_);
        if (panels_.k == 0) break;
      }
    }
  }

  // The tile loads whole vectors of bias.
  void pad_bias(T* bias) const {
    const index padded = round_up(panels_.channels, lanes_);
    for (index group = 0; group < g_.groups; group++) {
      std::copy_n(call_.bias + group * panels_.channels, panels_.channels, bias + group * padded);
      std::fill(bias + group * padded + panels_.channels, bias + (group + 1) * padded, T(0));
    }
  }

  // v[k - first_k][t] for the pixels [first, last) of all images.
  void build(index group, index first, index last, index first_k, index last_k, T* v, T* plane) const {
    if (by_planes_) build_channels(group, first, last, first_k / g_.taps(), last_k / g_.taps(), v, plane);
    else build_taps(group, first, last, first_k, last_k, v);
  }

  // Channel by channel through padded planes, which stay in L1 or L2. Blocks narrower than a row take one stretch of a
  // row at a time, others all their rows of an image.
  void build_channels(index group, index first, index last, index first_c, index last_c, T* v, T* plane) const {
    const index image = g_.oh * g_.ow, stretch = narrow_ ? g_.ow : image;
    std::vector<Run> runs;
    for (index q = first; q < last;) {
      const index end = std::min(last, (q / stretch + 1) * stretch), n = q / image, top = q % image / g_.ow;
      const index rows = (end - 1) % image / g_.ow - top + 1;
      const index column = narrow_ ? q % g_.ow : 0, columns = narrow_ ? end - q : g_.ow;
      runs.clear();
      for_segments(g_, q, end, [&](const Segment& s) {
        runs.push_back({(s.row - top) * phases_.pitch + s.column - column, q - first + s.at, s.count});
      });
      for (index c = first_c; c < last_c; c++) {
        phases_.load(*reader_, n, group * g_.group_c() + c, top, rows, column, columns, plane);
        tiles_.gather_taps(plane, offsets_.data(), g_.taps(), runs.data(), static_cast<index>(runs.size()),
                           v + (c - first_c) * g_.taps() * pitch_, pitch_);
      }
      q = end;
    }
  }

  // Tap by tap straight from the image: for one tap, and for kernels so large that their planes would be too.
  void build_taps(index group, index first, index last, index first_k, index last_k, T* v) const {
    for_segments(g_, first, last, [&](const Segment& s) {
      index kw = first_k % g_.kw, kh = first_k / g_.kw % g_.kh, c = group * g_.group_c() + first_k / g_.taps();
      for (index k = first_k; k < last_k; k++) {
        reader_->read(v + (k - first_k) * pitch_ + s.at, s.n, c, s.row * g_.stride_h + kh * g_.dilation_h - g_.pad_top,
                      s.column * g_.stride_w + kw * g_.dilation_w - g_.pad_left, g_.stride_w, s.count);
        if (++kw == g_.kw) kw = 0, kh++;
        if (kh == g_.kh) kh = 0, c++;
      }
    });
  }

  // m[t][lane] of one panel; continues from m when first_k > 0.
  void multiply(index group, index panel, index columns, index first_k, index last_k, const T* v, const T* bias,
                T* m) const {
    const index stored = panels_.stored(panel);
    const T* u = call_.weight + panels_.offset(group, panel);
    const T* start = bias + group * round_up(panels_.channels, lanes_) + panels_.first(panel);
    for (index k = first_k; k == first_k || k < last_k; k += k_step) {
      const index count = std::min(k_step, last_k - k);
      tiles_.output_lane(static_cast<int>(stored / lanes_), columns, count, u + k * stored, v + (k - first_k) * pitch_,
                         pitch_, m, stored, k ? m : start, k ? stored : 0);
    }
  }

  void store(index group, index panel, index first, index last, const T* m, T* stage) const {
    const index stored = panels_.stored(panel), plane = g_.oh * g_.ow;
    for (index lane = 0; lane < panels_.kept(panel); lane += lanes_) {
      const index channel = group * g_.group_oc() + panels_.first(panel) + lane;
      const int channels = static_cast<int>(std::min(lanes_, panels_.kept(panel) - lane));
      if (y_.plane_contiguous() && writer_->in_place(0, 0)) {
        for (index q = first; q < last;) {
          const index n = q / plane, end = std::min(last, (n + 1) * plane);
          tiles_.transpose_store(m + (q - first) * stored + lane, stored, end - q,
                                 writer_->in_place(n, channel) + (q - n * plane), y_.sc, channels);
          q = end;
        }
        continue;
      }
      tiles_.transpose_store(m + lane, stored, last - first, stage, columns_, channels);
      for_segments(g_, first, last, [&](const Segment& s) {
        for (int c = 0; c < channels; c++)
          writer_->write(stage + c * columns_ + s.at, s.n, channel + c, s.row, s.column, s.count);
      });
    }
  }

  const Call<T>& call_;
  Geometry g_;
  ImageView x_;
  OutputView y_;
  const TileTable<T>& tiles_;
  const index lanes_;
  const Panels panels_;
  PhasePlanes phases_;
  std::vector<index> offsets_;
  const RowReader<T>* reader_ = nullptr;
  const RowWriter<T>* writer_ = nullptr;
  index pixels_ = 0, columns_ = 0, blocks_ = 0, pitch_ = 0, k_part_ = 0;
  bool shared_ = false;     // all threads build one v
  bool by_planes_ = false;  // v is gathered from padded planes
  bool narrow_ = false;     // a block is narrower than a row of outputs
  int threads_ = 1;
};

}  // namespace

bool fits(const Geometry&) { return true; }

template <class T>
index packed_size(const Plan& plan) {
  return checked_mul(plan.g.groups, output_panels<T>(plan).group_size());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  pack_panels<T>(*plan.isa, w, plan.g, output_panels<T>(plan), dst);
}

template <class T>
void run(const Call<T>& call) {
  Driver<T>(call).run();
}

const Algorithm algorithm = {
    "output_lane", "direct output_lane", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::output_lane
