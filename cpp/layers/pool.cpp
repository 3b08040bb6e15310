// Maxima and averages, a row of outputs at a time, for neighbouring rows side by side:
//   image   r0 . . . . . .  |
//           r1 . . . . . .  | down -> # . . . . . . # | # . . . . . . # | ...   across -> o o o o o o ... -> y y y
//           r2 . . . . . .  |         <---- pitch --->  the next row                      every stride-th
// Down costs one pass of vectors over the window's rows as they lie in memory. Across, a window begins at every cell:
// each tap is the same row again, further right, and vectors stay full where images are narrow. To throw away what lies
// between the outputs costs less than to bring the cells of every tap together first; that is done for windows that
// follow no rule, or lie far apart. The taps that a shorter one lacks read a cell of padding after the row.
//
// Where a maximum lies is told by PyTorch's rule, "v > best, or v is NaN", scanning the window row by row. Ranks make
// that independent of the order: the least rank wins among equal cells and among NaNs. The rank of a cell is its
// distance k from the first cell of the window's first row, or ~k if it is NaN; padding ranks behind them all.
// The gradient of averages is a sum of windows too: each cell takes the outputs whose windows hold it, divided as they
// were. No sum is ever split between tasks: the bits do not depend on the number of threads.
#include <limits>
#include "../plan.hpp"
#include "layers.hpp"
#include "rows.hpp"

namespace konv {
namespace {

// What padding holds when maxima are sought: the least value that memory of this kind can hold.
template <class T> T lowest_of(Scalar scalar) {
  if constexpr (!std::is_integral_v<T>) return -std::numeric_limits<T>::infinity();
  if (scalar == Scalar::u8) return T(0);
  return static_cast<T>(std::numeric_limits<index>::min() >> (64 - 8 * scalar_bytes(scalar)));
}

template <class T> class Pool {
 public:
  Pool(const IsaTable& isa, const Pooling& p)
      : p_(p), rows_(p.rows), columns_(p.columns), kernels_(isa.layers.of<T>()),
        reduce_(p.kind == PoolKind::maximum ? kernels_.max_taps : kernels_.sum_taps),
        padding_(p.kind == PoolKind::maximum ? lowest_of<T>(p.x.scalar) : T(0)), x_(isa, p.x, PadMode::zeros),
        y_(isa, p.y), own_(isa.rows.of<T>()), counts_(p.columns.counts.begin(), p.columns.counts.end()) {
    const PoolAxis& a = columns_;
    const index read = (a.outputs() - 1) * a.stride + (a.kernel - 1) * a.dilation + 1;
    pitch_ = std::max({read, (a.size - 1) * a.spread + a.pad + 2, a.outputs()});
    side_by_side_ = std::clamp<index>(1024 / pitch_, 1, 64);
    tall_ = std::max<index>(1, *std::max_element(rows_.taps.begin(), rows_.taps.end()));
    wide_ = std::max<index>(1, *std::max_element(a.taps.begin(), a.taps.end()));
    for (index t = 0; t < wide_ && !a.kernel; t++)
      for (index j = 0; j < a.outputs(); j++) place_.push_back(t < a.taps[j] ? a.first[j] + t * a.dilation : a.size);
    const index gathered = checked_mul(side_by_side_, static_cast<index>(place_.size()));
    length_ = std::max({checked_mul(tall_, a.size), side_by_side_ * pitch_, a.outputs(), gathered});
    length_ = checked_add(round_up(length_, 64), 16);  // not all at the same place of a page
    // Ranks are no wider than T; refuses, before any work, windows that span more cells than they can count.
    if (p.cells && checked_mul(checked_mul(tall_, rows_.dilation), a.size) >= no_cell<T>)
      throw std::overflow_error("konv: a pooling window spans more cells than its indices can count");
  }

  void run() const {
    const index units = p_.n * p_.c * rows_.outputs(), work = ceil_div(rows_.size, rows_.outputs()) * columns_.size;
    each_range<T>(units, 2 * work, checked_mul(14, length_), least_limit, [&](index unit, index last, T* memory) {
      const auto array = [&](index i) { return memory + 2 * i * length_; };  // and its ranks
      const Scratch s{array(0), array(1), array(2), array(3), array(4), array(5), array(6)};
      std::fill_n(s.padded, side_by_side_ * pitch_, padding_);
      if (p_.cells) std::fill_n(ranks_of(s.padded), side_by_side_ * pitch_, no_cell<T>);
      while (unit < last) unit += some(s, unit, last);
    });
  }
 private:
  struct Scratch {
    T *read, *divided;       // the rows of a window
    T *padded, *taps, *out;  // rows side by side, their taps where there is no rule, and what they become
    T *row, *picked;         // a row
  };
  Rank<T>* ranks_of(T* scratch) const { return reinterpret_cast<Rank<T>*>(scratch + length_); }

  // Units are rows of outputs. Neighbours with the same window (transposes have them) are computed once.
  void next(RowBlock& b) const {
    if (++b.row == rows_.outputs()) b.row = 0, b.c++;
    if (b.c == p_.c) b.c = 0, b.n++;
  }
  bool again(index i) const { return i && rows_.first[i] == rows_.first[i - 1] && rows_.taps[i] == rows_.taps[i - 1]; }

  // From `unit` on, before `last`; returns how many.
  index some(const Scratch& s, index unit, index last) const {
    const index plane = unit / rows_.outputs(), i = unit % rows_.outputs(), ow = columns_.outputs();
    RowBlock b{{plane / p_.c, plane % p_.c, i, 0}, 1, ow};
    index done = 0, count = 0, from = 0;
    for (RowBlock read = b; done < last - unit; done++, next(read)) {
      if (done && again(read.row)) continue;
      if (count == side_by_side_) break;
      down(s, read, count++ * pitch_);
    }
    across(s, count);
    for (index j = 0; j < done; j++, next(b)) {
      if (j && !again(b.row)) from += columns_.kernel ? pitch_ : ow;
      write(s, b, from);
    }
    return done;
  }

  // The window's rows, to the padded row that begins at `to`.
  void down(const Scratch& s, const RowBlock& b, index to) const {
    const index w = columns_.size, first = rows_.first[b.row], taps = rows_.taps[b.row];
    to += columns_.pad;
    T* out = columns_.spread > 1 ? s.row : s.padded + to;
    if (taps) {
      const T* x = x_.in_place(b.n, b.c, first);
      index step = rows_.dilation * p_.x.sh;
      if (!x) x_.read_rows(s.read, w, {{b.n, b.c, first, 0}, taps, w, rows_.dilation}), x = s.read, step = w;
      if (p_.kind == PoolKind::spread) {
        for (index t = 0; t < taps; t++) divide(s.divided + t * w, x + t * step, first + t * rows_.dilation, w);
        x = s.divided, step = w;
      }
      if (p_.cells) kernels_.max_down(out, ranks_of(s.padded) + to, x, nullptr, step, rows_.dilation * w, taps, w);
      else reduce_(out, x, step, taps, w);
    } else {
      std::fill_n(out, w, padding_);
      if (p_.cells) std::fill_n(ranks_of(s.padded) + to, w, no_cell<T>);
    }
    if (columns_.spread > 1) own_.store(scalar_of<T>, s.padded + to, columns_.spread, out, w);
  }

  // `count` padded rows.
  void across(const Scratch& s, index count) const {
    const PoolAxis& a = columns_;
    T* taps = s.padded;
    index step = a.dilation, k = a.kernel, n = (count - 1) * pitch_ + (a.outputs() - 1) * a.stride + 1;
    if (!a.kernel) {
      taps = s.taps, step = side_by_side_ * a.outputs(), k = wide_, n = count * a.outputs();
      gather(taps, s.padded, count);
      if (p_.cells) gather(ranks_of(taps), ranks_of(s.padded), count);
    }
    if (p_.cells) kernels_.max_across(s.out, ranks_of(s.out), taps, ranks_of(taps), step, 0, k, n);
    else reduce_(s.out, taps, step, k, n);
  }

  template <class Cell> void gather(Cell* taps, const Cell* padded, index count) const {
    const index ow = columns_.outputs();
    for (index t = 0; t < wide_; t++)
      for (index r = 0; r < count; r++)
        for (index j = 0; j < ow; j++)
          taps[(t * side_by_side_ + r) * ow + j] = padded[r * pitch_ + columns_.pad + place_[t * ow + j]];
  }

  // Sums of a row become averages, over the window's rows times its columns.
  void divide(T* y, const T* x, index row, index count) const {
    kernels_.divide(y, x, static_cast<T>(rows_.counts[row]), counts_.data(), count);
  }

  // A row of outputs, from those that begin at `from`.
  void write(const Scratch& s, const RowBlock& b, index from) const {
    const index ow = columns_.outputs(), stride = columns_.stride;
    const auto pick = [&](T* dst, const void* src, index step, index n) { own_.load(scalar_of<T>, dst, src, step, n); };
    fill_rows(y_, p_.y, b, s.row, [&](T* y) {
      const T* out = s.out + from;
      if (p_.kind != PoolKind::average) return pick(y, out, stride, ow);
      if (stride > 1) pick(s.picked, out, stride, ow), out = s.picked;
      divide(y, out, b.row, ow);
    });
    if (!p_.cells) return;
    pick(s.picked, ranks_of(s.out) + from, stride, ow);  // as wide as T, and moved unseen
    index* cells = p_.cells + ((b.n * p_.c + b.c) * rows_.outputs() + b.row) * ow;
    kernels_.cells(cells, reinterpret_cast<Rank<T>*>(s.picked), rows_.first[b.row] * columns_.size, ow);
  }

  const Pooling& p_;
  const PoolAxis &rows_, &columns_;
  const LayerKernels<T>& kernels_;
  void (*reduce_)(T* out, const T* taps, index step, index k, index n);
  T padding_;
  RowReader<T> x_;
  RowWriter<T> y_;
  const RowTable<T>& own_;
  std::vector<T> counts_;
  index pitch_, side_by_side_, tall_, wide_, length_;  // tall, wide: the largest window; length: of arrays in scratch
  std::vector<index> place_;                           // where there is no rule: the cell of tap t of output j
};
}  // namespace

void pool(const IsaTable& isa, const Pooling& p) {
  with_compute_type(p.x.scalar, [&](auto t) { Pool<decltype(t)>(isa, p).run(); });
}

void max_pool_gradient(const IsaTable& isa, index n, index c, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx) {
  with_compute_type(gy.scalar, [&]<class T>(T) {
    const index plane = gx.h * gx.w, outputs = gy.h * gy.w, wider = sizeof(index) / sizeof(T);
    const RowReader<T> grads(isa, gy, PadMode::zeros);
    const RowReader<index> places(isa, cells, PadMode::zeros);
    const RowWriter<T> target(isa, gx);
    bool outside = false;
    const index scratch = checked_add(plane, checked_mul(outputs, 1 + wider));
    each_range<T>(n * c, 2 * plane, scratch, least_limit, [&](index unit, index last, T* memory) {
      for (; unit < last; unit++) {
        const RowBlock from{{unit / c, unit % c, 0, 0}, gy.h, gy.w}, to{from, gx.h, gx.w};
        const index* cell = rows_of(places, cells, from, reinterpret_cast<index*>(memory));
        const T* g = rows_of(grads, gy, from, memory + outputs * wider);
        fill_rows(target, gx, to, memory + outputs * (wider + 1), [&](T* sums) {
          std::fill_n(sums, plane, T(0));
          for (index i = 0; i < outputs; i++) {
            if (static_cast<std::uint64_t>(cell[i]) < static_cast<std::uint64_t>(plane)) sums[cell[i]] += g[i];
            else if (cell[i] != -1) __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
          }
        });
      }
    });
    if (outside) throw std::invalid_argument("konv: an index of max_pool2d lies outside the image");
  });
}
}  // namespace konv
