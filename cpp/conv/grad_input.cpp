// Gradient of the image by derived forward problems.
//
// An image cell h (h + pad in the padded image) is read by output o through tap k where o*s + k*d = h + pad. Of the s
// phases h mod s, each is reached by the taps of one residue class alone, and those form an arithmetic progression
// k = k0, k0 + s/g, k0 + 2s/g ... with g = gcd(s, d). Along a phase, h = a + s*t, so
//
//     o = t + e - m*(d/g),    e = (a + pad - k0*d) / s,    tap k0 + m*(s/g),    m = 0 .. M-1
//
// which, with the taps in reverse order, is an ordinary convolution of gy: M taps, stride 1, dilation d/g, pad
// (M-1)*d/g - e (negative: gy is cropped), image and output channels exchanged. Reversal, exchange and the choice of
// taps are strides of the WeightView; the cells of a phase are strides of the OutputView:
//
//     stride 2, 3x3:    A B A B     A: 1 tap (middle)        B: 2 taps (left, right)
//                       C D C D     C: 2 taps (up, down)     D: 4 taps (corners)
//
// so every plan of the forward pass, Winograd included, runs here unchanged. Cells that no tap reaches are filled
// first.
//
// Padding that copies the image (reflect, replicate, circular) adds: the gradient of the image itself is as with zeros,
// the gradients of the four borders are further regions of the padded image, computed a few rows at a time into a small
// buffer and added to the cells that the border was copied from. The padded image never exists as a whole.
//
//     +------- top -------+
//     | left  image  right|
//     +------ bottom -----+
//
// Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.
#include "grad_input.hpp"

#include <algorithm>
#include <numeric>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "depthwise.hpp"
#include "direct.hpp"
#include "rows.hpp"

namespace konv {
namespace {

constexpr index border_bytes = 1 << 20;  // buffer of one piece of a border

// One phase along one axis.
struct AxisPhase {
  index first, cells;     // cells first, first + s, ...
  index tap, taps, step;  // k0, M, s/g
  index dilation, pad;
};

// Phases with taps of the cells [origin, origin + size) of the padded image.
std::vector<AxisPhase> phases_of(index origin, index size, index kernel, index stride, index dilation) {
  std::vector<AxisPhase> phases;
  const index common = std::gcd(stride, dilation), step = stride / common, apart = dilation / common;
  for (index k = 0; k < std::min(kernel, step); k++) {
    const index first = ((k * dilation - origin) % stride + stride) % stride;
    if (first >= size) continue;
    const index taps = ceil_div(kernel - k, step), e = (first + origin - k * dilation) / stride;
    phases.push_back({first, ceil_div(size - first, stride), k, taps, step, apart, (taps - 1) * apart - e});
  }
  return phases;
}

class Builder {
 public:
  Builder(GradInputPlan& plan, Precision precision, const std::string& forced)
      : plan_(plan), precision_(precision), forced_(forced) {}

  GradInputRegion region(index row, index column, index rows, index columns, bool border) {
    const Geometry& g = plan_.g;
    GradInputRegion region{row, column, rows, columns, {}, false};
    const auto down = phases_of(row, rows, g.kh, g.stride_h, g.dilation_h);
    const auto across = phases_of(column, columns, g.kw, g.stride_w, g.dilation_w);
    for (const AxisPhase& v : down)
      for (const AxisPhase& u : across) region.phases.push_back(phase(v, u, border));
    const auto reached = static_cast<index>(region.phases.size());
    region.gaps = reached < std::min(g.stride_h, rows) * std::min(g.stride_w, columns);
    return region;
  }

 private:
  GradInputPhase phase(const AxisPhase& v, const AxisPhase& u, bool border) {
    const Geometry& g = plan_.g;
    const Geometry derived{g.oc, g.oh, g.ow,       g.c,        v.cells, u.cells, v.taps,   u.taps,
                           1,    1,    v.dilation, u.dilation, v.pad,   u.pad,   g.groups, PadMode::zeros};
    // Borders are a few cells wide: no transform pays, and one kind of packed weight serves all four.
    const bool planes = border && forced_.empty() && !depthwise::fits(derived) && planes::fits(derived);
    Plan made = plan_of(derived, planes ? "planes" : forced_);
    GradInputPhase phase{
        std::move(made), v.first, u.first, v.tap + (v.taps - 1) * v.step, u.tap + (u.taps - 1) * u.step,
        -v.step,         -u.step, 0};
    phase.packed = place(phase);
    return phase;
  }

  // A forced plan is for the phases that it fits.
  Plan plan_of(const Geometry& derived, const std::string& forced) {
    const auto make = [&](const std::string& name) {
      return make_plan(derived, plan_.scalar, plan_.parts, *plan_.isa, precision_, name);
    };
    try {
      return make(forced);
    } catch (const std::invalid_argument&) {
      return make("");
    }
  }

  // Phases of the image and of the borders that read the same taps in the same layout share one packed weight.
  index place(const GradInputPhase& phase) {
    std::string name = phase.plan.layout;
    for (index part : {phase.tap_h, phase.tap_w, phase.step_h, phase.step_w})
      name.append(" ").append(std::to_string(part));
    for (const auto& [known, at] : places_)
      if (known == name) return at;
    index bytes = 0;
    with_compute_type(plan_.scalar, [&](auto t) { bytes = checked_mul(phase.plan.packed, index{sizeof t}); });
    const index at = plan_.packed_bytes;
    plan_.packed_bytes = checked_add(at, checked_add(bytes, 127) / 64 * 64);
    plan_.layout.append("; ").append(name);
    places_.emplace_back(std::move(name), at);
    return at;
  }

  GradInputPlan& plan_;
  const Precision precision_;
  const std::string forced_;
  std::vector<std::pair<std::string, index>> places_;
};

void check(const Geometry& g, Scalar scalar) {
  if (g.groups < 1 || g.c % g.groups || g.oc % g.groups || g.kh < 1 || g.kw < 1 || g.stride_h < 1 || g.stride_w < 1 ||
      g.dilation_h < 1 || g.dilation_w < 1 || std::min({g.c, g.h, g.w, g.oc, g.oh, g.ow}) < 0)
    throw std::invalid_argument("konv: impossible geometry");
  const index bytes = 2 * scalar_bytes(scalar);
  checked_mul(checked_mul(checked_mul(g.c, g.h), g.w), bytes);
  checked_mul(checked_mul(checked_mul(g.oc, g.oh), g.ow), bytes);
  for (index pad : {g.pad_top, g.pad_left})
    if (pad < -(index{1} << 61) || pad > index{1} << 61) throw std::overflow_error("konv: a pad does not fit");
  checked_mul(checked_add(checked_mul(g.oh, g.stride_h), checked_mul(g.kh, g.dilation_h)), 4);
  checked_mul(checked_add(checked_mul(g.ow, g.stride_w), checked_mul(g.kw, g.dilation_w)), 4);
}

}  // namespace

GradInputPlan make_grad_input(const Geometry& g, Scalar scalar, int parts, const IsaTable& isa, Precision precision,
                              bool conjugate, const std::string& forced) {
  check(g, scalar);
  GradInputPlan plan{g, scalar, parts, &isa, conjugate, {}, {}, conjugate ? "conjugate" : "plain", 0};
  if (std::min({g.c, g.h, g.w, g.oc, g.oh, g.ow}) == 0) return plan;  // nothing to add up: see run
  Builder builder(plan, precision, forced);
  plan.image = builder.region(g.pad_top, g.pad_left, g.h, g.w, false);
  if (g.mode == PadMode::zeros) return plan;
  // What lies past the last window has no gradient.
  const index used_rows = (g.oh - 1) * g.stride_h + (g.kh - 1) * g.dilation_h + 1;
  const index used_columns = (g.ow - 1) * g.stride_w + (g.kw - 1) * g.dilation_w + 1;
  const index bottom = used_rows - g.pad_top - g.h, right = used_columns - g.pad_left - g.w;
  const index width = std::max(used_columns, g.pad_left + g.w);
  const auto border = [&](index row, index column, index rows, index columns) {
    if (rows > 0 && columns > 0) plan.borders.push_back(builder.region(row, column, rows, columns, true));
  };
  border(0, 0, g.pad_top, width);
  border(g.pad_top + g.h, 0, bottom, width);
  border(g.pad_top, 0, g.h, g.pad_left);
  border(g.pad_top, g.pad_left + g.w, g.h, right);
  return plan;
}

namespace grad_input {
namespace {

// Rows [row, row + rows) of a region, row and all but the last `rows` multiples of the stride, into `out`.
template <class T>
void run_rows(const GradInputPlan& plan, const GradInputRegion& region, index row, index rows, const char* packed,
              const T* bias, const ImageView& gy, const OutputView& out, index n) {
  const Geometry& g = plan.g;
  for (const GradInputPhase& phase : region.phases) {
    if (phase.row >= rows) continue;
    const bool whole = rows == region.rows;
    Plan piece = whole ? Plan{} : phase.plan;
    piece.g.oh = ceil_div(rows - phase.row, g.stride_h);
    piece.g.pad_top -= row / g.stride_h;
    const Plan& p = whole ? phase.plan : piece;
    OutputView y = out;
    y.h = p.g.oh, y.w = p.g.ow;
    y.data = static_cast<char*>(out.data) + (phase.row * out.sh + phase.column * out.sw) * scalar_bytes(out.scalar);
    y.sh = out.sh * g.stride_h, y.sw = out.sw * g.stride_w;
    konv::run<T>({p, reinterpret_cast<const T*>(packed + phase.packed), bias, gy, y, n});
  }
}

// Every cell of channel c = bias[c].
template <class T>
void fill(const IsaTable& isa, const OutputView& y, index n, index channels, const T* bias) {
  const RowWriter<T> writer(isa, y);
  const index block = std::min<index>(y.w, 1024);
  parallel_for(n * channels, [&](index plane, int) {
    const index c = plane % channels;
    T row[1024];
    std::fill_n(row, block, bias[c]);
    for (index r = 0; r < y.h; r++)
      for (index j = 0; j < y.w; j += block) writer.write(row, plane / channels, c, r, j, std::min(block, y.w - j));
  });
}

// result += rows [row, row + rows) of a border, each cell where the padding mode took it from.
template <class T>
class BorderAdder {
 public:
  BorderAdder(const GradInputPlan& plan, const GradInputRegion& region, const OutputView& result)
      : g_(plan.g),
        region_(region),
        result_(result),
        writer_(*plan.isa, result),
        reader_(
            *plan.isa,
            {result.data, result.scalar, result.parts, result.h, result.w, result.sn, result.sc, result.sh, result.sw},
            PadMode::zeros),
        source_(region.columns) {
    first_ = g_.w, last_ = -1;
    for (index j = 0; j < region.columns; j++) {
      source_[j] = source_index(region.column + j - g_.pad_left, g_.w, g_.mode);
      if (source_[j] < 0) continue;
      first_ = std::min(first_, source_[j]), last_ = std::max(last_, source_[j]);
    }
  }
  index scratch() const { return std::max<index>(1, last_ - first_ + 1); }

  // border: (rows, columns) of image n, channel c.
  void add(const T* border, index row, index rows, index n, index c, T* scratch) const {
    const index count = last_ - first_ + 1;
    if (count <= 0) return;
    for (index r = 0; r < rows; r++, border += region_.columns) {
      const index at = source_index(region_.row + row + r - g_.pad_top, g_.h, g_.mode);
      if (at < 0) continue;
      reader_.read(scratch, n, c, at, first_, 1, count);
      for (index j = 0; j < region_.columns; j++)
        if (source_[j] >= 0) scratch[source_[j] - first_] += border[j];
      writer_.write(scratch, n, c, at, first_, count);
    }
  }

 private:
  const Geometry& g_;
  const GradInputRegion& region_;
  const OutputView result_;
  const RowWriter<T> writer_;
  const RowReader<T> reader_;
  std::vector<index> source_;  // column of the image behind each column of the border, -1: none
  index first_, last_;
};

template <class T>
void add_border(const GradInputPlan& plan, const GradInputRegion& region, const char* packed, const ImageView& gy,
                const OutputView& result, index n) {
  const Geometry& g = plan.g;
  const BorderAdder<T> adder(plan, region, result);
  const std::vector<T> zeros(static_cast<std::size_t>(g.c), T(0));
  // Pieces: some images with all rows, or some rows of one image.
  const index row_bytes = checked_mul(g.c * region.columns, index{sizeof(T)});
  const index fit = std::max<index>(1, border_bytes / row_bytes);
  const index rows = std::min(region.rows, round_up(fit, g.stride_h));
  const index images = rows < region.rows ? 1 : std::clamp<index>(fit / rows, 1, n);
  const int slots = num_threads();
  Workspace scratch(round_up(images * rows * row_bytes, 64), round_up(adder.scratch() * index{sizeof(T)}, 64), slots);
  for (index n0 = 0; n0 < n; n0 += images)
    for (index row = 0; row < region.rows; row += rows) {
      const index n1 = std::min(images, n - n0), piece = std::min(rows, region.rows - row);
      T* buffer = scratch.shared<T>();
      if (region.gaps || region.phases.empty()) std::fill_n(buffer, n1 * g.c * piece * region.columns, T(0));
      const index plane = piece * region.columns;
      OutputView y{buffer, scalar_of<T>, 1, piece, region.columns, g.c * plane, plane, region.columns, 1};
      ImageView from = gy;
      from.data = gy.plane(n0, 0);
      run_rows<T>(plan, region, row, piece, packed, zeros.data(), from, y, n1);
      parallel_for(
          n1 * g.c,
          [&](index at, int slot) {
            adder.add(buffer + at * plane, row, piece, n0 + at / g.c, at % g.c, scratch.slot<T>(slot));
          },
          slots);
    }
}

}  // namespace

template <class T>
void pack(const GradInputPlan& plan, const WeightView& w, void* dst) {
  std::vector<index> done;
  const auto pack_region = [&](const GradInputRegion& region) {
    for (const GradInputPhase& phase : region.phases) {
      if (std::find(done.begin(), done.end(), phase.packed) != done.end()) continue;
      done.push_back(phase.packed);
      WeightView v = w;
      v.data = static_cast<const char*>(w.data) + (phase.tap_h * w.sh + phase.tap_w * w.sw) * scalar_bytes(w.scalar);
      v.sh = w.sh * phase.step_h, v.sw = w.sw * phase.step_w;
      v.so = w.si, v.si = w.so;
      v.im_sign = plan.conjugate ? -1 : 1;
      konv::pack<T>(phase.plan, v, reinterpret_cast<T*>(static_cast<char*>(dst) + phase.packed));
    }
  };
  pack_region(plan.image);
  for (const GradInputRegion& region : plan.borders) pack_region(region);
}

template <class T>
void run(const GradInputPlan& plan, const void* packed, const T* bias, const ImageView& gy, const OutputView& result,
         index n) {
  const Geometry& g = plan.g;
  if (n == 0 || g.c == 0 || g.h == 0 || g.w == 0) return;
  const bool empty = g.oc == 0 || g.oh == 0 || g.ow == 0;
  if (empty || plan.image.gaps) fill<T>(*plan.isa, result, n, g.c, bias);
  if (empty) return;
  const char* weights = static_cast<const char*>(packed);
  run_rows<T>(plan, plan.image, 0, g.h, weights, bias, gy, result, n);
  for (const GradInputRegion& region : plan.borders) add_border<T>(plan, region, weights, gy, result, n);
}

#define KONV_GRAD_INPUT(T)                                               \
  template void pack<T>(const GradInputPlan&, const WeightView&, void*); \
  template void run<T>(const GradInputPlan&, const void*, const T*, const ImageView&, const OutputView&, index);
KONV_GRAD_INPUT(float)
KONV_GRAD_INPUT(double)
KONV_GRAD_INPUT(index)
#undef KONV_GRAD_INPUT

}  // namespace grad_input
}  // namespace konv
