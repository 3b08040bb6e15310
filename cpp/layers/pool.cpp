// Maxima and averages, a row of outputs at a time, for neighbouring rows side by side:
//
//   image   r0 . . . . . .  |
//           r1 . . . . . .  | down -> # . . . . . . # | # . . . . . . # | ...   across -> o o o o o o ... -> y y y
//           r2 . . . . . .  |         <---- pitch --->  the next row                      every stride-th
//
// Down costs one pass of vectors over the window's rows as they lie in memory. Across, a window begins at every cell:
// each tap is then the same row again, further right, and vectors stay full where images are narrow. What lies between
// the outputs is thrown away, which costs less than bringing every tap's cells together first. Windows that follow no
// rule, or lie far apart, are taken one by one.
//
// Where a maximum lies is told by PyTorch's rule, "v > best, or v is NaN", scanning the window row by row. Ranks make
// that independent of the order: the cell of the least rank wins among equal cells and among NaNs. The rank of a cell
// is its distance from the first cell of the window's first row, k, or ~k if it is NaN; padding ranks behind them all.
//
// The gradient of averages is a sum of windows too: each cell takes the outputs whose windows hold it, divided as they
// were. Tasks are ranges of rows, no sum is ever split: the bits do not depend on the number of threads.
#include "pool.hpp"

#include <limits>
#include <stdexcept>

#include "rows.hpp"

namespace konv {
namespace {

// What padding holds when maxima are sought: the least value that memory of this kind can hold.
template <class T>
T lowest_of(Scalar scalar) {
  if constexpr (!std::is_integral_v<T>) return -std::numeric_limits<T>::infinity();
  if (scalar == Scalar::u8) return T(0);
  return static_cast<T>(std::numeric_limits<index>::min() >> (64 - 8 * scalar_bytes(scalar)));
}

template <class T>
class Pool {
 public:
  Pool(const IsaTable& isa, const Pooling& p)
      : p_(p),
        rows_(p.rows),
        columns_(p.columns),
        kernels_(isa.layers.of<T>()),
        reduce_(p.kind == PoolKind::maximum ? kernels_.max_taps : kernels_.sum_taps),
        padding_(p.kind == PoolKind::maximum ? lowest_of<T>(p.x.scalar) : T(0)),
        x_(isa, p.x, PadMode::zeros),
        y_(isa, p.y),
        load_(isa.rows<T>().load[static_cast<int>(scalar_of<T>)]),
        store_(isa.rows<T>().store[static_cast<int>(scalar_of<T>)]),
        load_rank_(isa.rows<index>().load[static_cast<int>(sizeof(Rank<T>) == 4 ? Scalar::i32 : Scalar::i64)]) {
    const PoolAxis& a = columns_;
    const index read = (a.outputs() - 1) * a.stride + (a.kernel - 1) * a.dilation + 1;
    pitch_ = std::max({read, (a.size - 1) * a.spread + a.pad + 1, a.outputs()});
    side_by_side_ = std::clamp<index>(1024 / pitch_, 1, 64);
    longest_ = *std::max_element(rows_.taps.begin(), rows_.taps.end());
    // Ranks are no wider than T; refuses, before any work, windows that span more cells than they can count.
    const index span = checked_mul(checked_mul(longest_, rows_.dilation), a.size);
    if (p.cells && span >= no_cell<T>)
      throw std::overflow_error("konv: a pooling window spans more cells than its indices can count");
    if (p.kind == PoolKind::maximum) return;
    const index divided = p.kind == PoolKind::average ? a.outputs() : a.size;
    for (index j = 0; j < divided; j++) counts_.push_back(static_cast<T>(p.column_counts[j]));
  }

  void run() const {
    const index cells = ceil_div(rows_.size, rows_.outputs()) * columns_.size;
    each_range(
        p_.n * p_.c * rows_.outputs(), cells, [this](Cutter& cut) { return Scratch(cut, *this); },
        [this](const Scratch& s, index unit, index last) {
          while (unit < last) unit += some(s, unit, last);
        });
  }

 private:
  struct Scratch {
    T *read, *padded, *out, *row;
    Rank<T>*padded_rank, *rank;

    Scratch(Cutter& cut, const Pool& m) {
      const index w = m.columns_.size, cells = m.side_by_side_ * m.pitch_, ranks = m.p_.cells ? cells : 0;
      read = cut.take<T>(m.longest_ * w), padded = cut.take<T>(cells), out = cut.take<T>(cells);
      row = cut.take<T>(std::max(w, m.columns_.outputs()));
      padded_rank = cut.take<Rank<T>>(ranks), rank = cut.take<Rank<T>>(ranks);
      if (!padded) return;  // only counting
      std::fill_n(padded, cells, m.padding_);
      std::fill_n(padded_rank, ranks, no_cell<T>);
    }
  };

  // Outputs are counted in rows of them, `unit`. Neighbours with the same window, as the transpose of windows that do
  // not overlap has them, are computed once.
  bool again(index unit, index first) const {
    const index i = unit % rows_.outputs();
    return unit > first && i > 0 && rows_.first[i] == rows_.first[i - 1] && rows_.taps[i] == rows_.taps[i - 1];
  }

  // From `unit` on, before `last`; returns how many.
  index some(const Scratch& s, index unit, index last) const {
    index end = unit, count = 0, row = 0;
    for (; end < last && (again(end, unit) || count < side_by_side_); end++)
      if (!again(end, unit)) down(s, end, count++ * pitch_);
    across(s, count);
    for (index at = unit; at < end; at++) {
      row += at > unit && !again(at, unit);
      write(s, at, row * pitch_);
    }
    return end - unit;
  }

  // The window's rows, to the padded row that begins at `to`.
  void down(const Scratch& s, index unit, index to) const {
    const index plane = unit / rows_.outputs(), i = unit % rows_.outputs(), w = columns_.size;
    const index n = plane / p_.c, c = plane % p_.c, first = rows_.first[i], taps = rows_.taps[i];
    T* out = columns_.spread > 1 ? s.row : s.padded + to + columns_.pad;
    Rank<T>* rank = s.padded_rank + to + columns_.pad;
    if (!taps) {
      std::fill_n(out, w, padding_);
      if (p_.cells) std::fill_n(rank, w, no_cell<T>);
    } else {
      const T* x = x_.in_place(n, c, first);
      index step = rows_.dilation * p_.x.sh;
      if (!x) x_.read_rows(s.read, w, n, c, first, rows_.dilation, taps, 0, 1, w), x = s.read, step = w;
      if (p_.kind == PoolKind::spread) {
        for (index t = 0; t < taps; t++) divide(s.read + t * w, x + t * step, first + t * rows_.dilation, w);
        x = s.read, step = w;
      }
      if (p_.cells) kernels_.max_rows(out, rank, x, step, rows_.dilation * w, taps, w);
      else reduce_(out, x, step, taps, w);
    }
    if (columns_.spread > 1) store_(s.padded + to + columns_.pad, columns_.spread, out, w);
  }

  // The padded rows, so many.
  void across(const Scratch& s, index count) const {
    const PoolAxis& a = columns_;
    const auto window = [&](index to, index from, index taps, index n) {
      if (p_.cells)
        kernels_.max_ranks(s.out + to, s.rank + to, s.padded + from, s.padded_rank + from, a.dilation, taps, n);
      else reduce_(s.out + to, s.padded + from, a.dilation, taps, n);
    };
    if (a.kernel) return window(0, 0, a.kernel, (count - 1) * pitch_ + (a.outputs() - 1) * a.stride + 1);
    for (index j = 0; j < a.outputs(); j++)
      for (index r = 0; r < count; r++) {
        const index to = r * pitch_ + j;
        if (a.taps[j]) {
          window(to, r * pitch_ + a.first[j], a.taps[j], 1);
        } else {
          s.out[to] = padding_;
          if (p_.cells) s.rank[to] = no_cell<T>;
        }
      }
  }

  // Sums of a row become averages, over the window's rows times its columns.
  void divide(T* y, const T* x, index row, index count) const {
    kernels_.divide(y, x, static_cast<T>(p_.row_counts[row]), counts_.data(), count);
  }

  // A row of outputs, from those that begin at `from`.
  void write(const Scratch& s, index unit, index from) const {
    const index plane = unit / rows_.outputs(), i = unit % rows_.outputs(), ow = columns_.outputs();
    fill_rows(y_, p_.y, plane / p_.c, plane % p_.c, i, 1, 0, ow, s.row, [&](T* y) {
      const T* out = s.out + from;
      if (p_.kind != PoolKind::average) return load_(y, out, columns_.stride, ow);
      if (columns_.stride > 1) load_(y, out, columns_.stride, ow), out = y;
      divide(y, out, i, ow);
    });
    if (!p_.cells) return;
    index* cells = p_.cells + unit * ow;
    load_rank_(cells, s.rank + from, columns_.stride, ow);
    kernels_.cells(cells, rows_.first[i] * columns_.size, ow);
  }

  const Pooling& p_;
  const PoolAxis &rows_, &columns_;
  const LayerKernels<T>& kernels_;
  void (*reduce_)(T* out, const T* taps, index step, index k, index n);
  T padding_;
  RowReader<T> x_;
  RowWriter<T> y_;
  void (*load_)(T* dst, const void* src, index stride, index count);
  void (*store_)(void* dst, index stride, const T* src, index count);
  void (*load_rank_)(index* dst, const void* src, index stride, index count);
  index pitch_, side_by_side_, longest_;
  std::vector<T> counts_;
};

}  // namespace

template <class T>
void pool(const IsaTable& isa, const Pooling& p) {
  Pool<T>(isa, p).run();
}

template <class T>
bool max_pool_gradient(const IsaTable& isa, index n, index c, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx) {
  const index plane = gx.h * gx.w, outputs = gy.h * gy.w;
  const RowReader<T> grads(isa, gy, PadMode::zeros);
  const RowReader<index> places(isa, cells, PadMode::zeros);
  const RowWriter<T> target(isa, gx);
  struct Scratch {
    T *sums, *grads;
    index* places;
  };
  const auto cut = [&](Cutter& s) { return Scratch{s.take<T>(plane), s.take<T>(outputs), s.take<index>(outputs)}; };
  bool outside = false;
  each_range(n * c, plane, cut, [&](const Scratch& s, index unit, index last) {
    for (; unit < last; unit++) {
      const index image = unit / c, channel = unit % c;
      const T* g = rows_of(grads, gy, image, channel, 0, gy.h, 0, gy.w, s.grads);
      const index* cell = rows_of(places, cells, image, channel, 0, gy.h, 0, gy.w, s.places);
      fill_rows(target, gx, image, channel, 0, gx.h, 0, gx.w, s.sums, [&](T* sums) {
        std::fill_n(sums, plane, T(0));
        for (index i = 0; i < outputs; i++) {
          if (static_cast<std::uint64_t>(cell[i]) < static_cast<std::uint64_t>(plane)) sums[cell[i]] += g[i];
          else if (cell[i] != -1) __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
        }
      });
    }
  });
  return !outside;
}

#define KONV_POOL(T)                                                                                    \
  template void pool<T>(const IsaTable&, const Pooling&);                                               \
  template bool max_pool_gradient<T>(const IsaTable&, index, index, const ImageView&, const ImageView&, \
                                     const OutputView&)
KONV_POOL(float);
KONV_POOL(double);
KONV_POOL(index);

}  // namespace konv
