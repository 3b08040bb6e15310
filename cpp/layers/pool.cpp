// Maxima and averages, a row of outputs at a time.
//
//   values    r0 . . . . . .  |
//             r1 . . . . . .  | down -> # . . . . . . #   split by columns.hpp, then across -> y y y
//             r2 . . . . . .  |
//
//   places    r0 # . . . . #  across -> y y y |
//             r1 # . . . . #  across -> y y y | down -> y y y
//             r2 # . . . . #  across -> y y y |
//
// Down costs one pass of vectors over the window's rows as they lie in memory, so it comes first wherever the order is
// free. Where a maximum lies is told by PyTorch's rule, "v > best, or v is NaN", scanning the window row by row; across
// first and down afterwards is that order.
//
// A key says where a maximum was found: its column, plus the cells between the window's first row in the image and its
// own. The key to begin with is that of the window's first cell inside the image, so a window that holds nothing above
// the padding's value reports it.
//
// The gradient of averages is a sum of windows too: each cell takes the outputs whose windows hold it, divided as they
// were. Tasks are ranges of rows, no sum is ever split: the bits do not depend on the number of threads.
#include "pool.hpp"

#include <limits>
#include <stdexcept>

#include "columns.hpp"

namespace konv {
namespace {

// What padding holds when maxima are sought: the least value that memory of this kind can hold.
template <class T>
T lowest_of(Scalar scalar) {
  if constexpr (!std::is_integral_v<T>) return -std::numeric_limits<T>::infinity();
  if (scalar == Scalar::u8) return T(0);
  return static_cast<T>(std::numeric_limits<index>::min() >> (64 - 8 * scalar_bytes(scalar)));
}

constexpr index slack = 8;  // lanes after a row of scratch, so that whole vectors may walk it

enum class Kind { maximum, average, transposed_average };

template <class T>
class Pool {
 public:
  // `averages`: the pooling whose numbers of cells divide sums; p itself, or the one whose transpose p is.
  Pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y, Kind kind,
       const Pooling& averages, index* cells = nullptr)
      : p_(p),
        kernels_(isa.layers.of<T>()),
        kind_(kind),
        reduce_(kind == Kind::maximum ? kernels_.max_taps : kernels_.sum_taps),
        padding_(kind == Kind::maximum ? lowest_of<T>(x.scalar) : T(0)),
        cells_(cells),
        x_(isa, x),
        y_(isa, y),
        columns_(isa, p.columns, cells ? std::min(p.rows.size, (p.rows.kernel - 1) * p.rows.dilation + 1) : 1,
                 cells ? p.rows.size : 64),
        averages_(averages) {
    for (index j = 0; j < averages.columns.outputs; j++) cells_across_.push_back(divisor(averages.columns, j));
    for (index i = 0; i < p.rows.outputs; i++) windows_.push_back({p.rows.inside(i, 0), p.rows.taps(i)});
    for (index j = 0; j < p.columns.outputs && cells; j++) {
      start_.push_back(static_cast<Key<T>>(p.columns.start(j)));
      first_.push_back(p.columns.taps(j) ? static_cast<Key<T>>(p.columns.inside(j, 0)) : no_cell<T>);
    }
    for (std::vector<Key<T>>* keys : {&start_, &first_}) {  // the same for each of the rows side by side
      keys->resize(cells ? columns_.rows * columns_.out_pitch : 0);
      for (index at = columns_.out_pitch; at < static_cast<index>(keys->size()); at++)
        (*keys)[at] = (*keys)[at - columns_.out_pitch];
    }
    for (index t = 0; t < p.columns.kernel && cells; t++) {
      across_key_.push_back(t ? start_.data() : first_.data());
      across_step_.push_back(static_cast<Key<T>>(t * p.columns.dilation));
    }
  }

  void run() const {
    const index cells = ceil_div(p_.rows.size, p_.rows.outputs) * p_.columns.size;
    each_range(
        p_.n * p_.c * p_.rows.outputs, cells, [this](Cutter& cut) { return Scratch(cut, *this); },
        [this](const Scratch& s, index first, index last) {
          for (index unit = first; unit < last;) unit += cells_ ? places(s, unit, last) : values(s, unit, last);
        });
  }

 private:
  struct Scratch {
    T *read, *padded, *out, *row;
    const T **down, **across;
    Key<T>*out_key, *key, *down_step;  // of maxima with places
    const Key<T>** down_key;

    Scratch(Cutter& cut, const Pool& m) {
      const index kh = std::min(m.p_.rows.kernel, m.p_.rows.size), kw = m.p_.columns.kernel;
      const index ow = m.p_.columns.outputs, outputs = m.columns_.rows * m.columns_.out_pitch + slack;
      const index keys = m.cells_ ? 1 : 0;
      read = cut.take<T>(keys ? 0 : kh * m.p_.columns.size);
      padded = cut.take<T>(m.columns_.cells()), out = cut.take<T>(outputs), row = cut.take<T>(ow);
      down = cut.take<const T*>(kh), across = cut.take<const T*>(kw);
      out_key = cut.take<Key<T>>(keys * outputs), key = cut.take<Key<T>>(keys * ow);
      down_step = cut.take<Key<T>>(keys * kh), down_key = cut.take<const Key<T>*>(keys * kh);
      if (!across) return;  // only counting
      for (index t = 0; t < kw; t++) across[t] = m.columns_.tap(padded, t);
      std::fill_n(padded, m.columns_.cells(), m.padding_);
      std::fill_n(out_key, keys * outputs, Key<T>{0});  // what nobody uses is added to, too
    }
  };

  // Sums of a row of outputs become averages: over the window's rows times its columns, or one number for all.
  void divide(T* y, const T* x, index row, index count) const {
    const T rows = averages_.divisor ? static_cast<T>(averages_.divisor) : divisor(averages_.rows, row);
    kernels_.divide(y, x, rows, cells_across_.data(), count);
  }
  T divisor(const PoolAxis& axis, index i) const {
    return static_cast<T>(averages_.divisor ? 1 : std::max<index>(1, axis.count(i, averages_.count_pad)));
  }

  // Rows of outputs from `unit` on, before `last`; returns how many. Neighbours with the same window, as the transpose
  // of windows that do not overlap has them, are one row.
  index values(const Scratch& s, index unit, index last) const {
    const index oh = p_.rows.outputs, ow = p_.columns.outputs, k = p_.columns.kernel;
    index count = 0, rows = 0;
    for (index at = unit; at < last && (again(at, unit) || rows < columns_.rows); at++, count++)
      if (!again(at, unit)) down(s, at / oh, at % oh, s.padded + rows++ * columns_.pitch + p_.columns.pad);
    columns_.split(s.padded, rows);
    const T* out = k == 1 ? s.across[0] : s.out;
    if (k > 1) reduce_(s.out, s.across, k, columns_.outputs(rows));
    for (index at = unit; at < unit + count; at++) {
      const index n = at / oh / p_.c, c = at / oh % p_.c, i = at % oh;
      if (at > unit && !again(at, unit)) out += columns_.out_pitch;
      T* y = y_.place(n, c, i, 0, s.row);
      if (kind_ == Kind::average) divide(y, out, i, ow);
      else std::copy_n(out, ow, y);
      y_.done(n, c, i, 0, ow, s.row);
    }
    return count;
  }

  bool again(index unit, index first) const {
    const index i = unit % p_.rows.outputs;
    return unit > first && i > 0 && windows_[i] == windows_[i - 1];
  }

  void down(const Scratch& s, index plane, index i, T* out) const {
    const index w = p_.columns.size;
    const auto [top, taps] = windows_[i];
    for (index t = 0; t < taps; t++) {
      const index r = top + t * p_.rows.dilation;
      T* own = taps == 1 ? out : s.read + t * w;
      s.down[t] = x_.row(plane / p_.c, plane % p_.c, r, 0, w, own);
      if (kind_ != Kind::transposed_average) continue;
      divide(own, s.down[t], r, w);
      s.down[t] = own;
    }
    if (taps > 1) reduce_(out, s.down, taps, w);
    else if (!taps) std::fill_n(out, w, padding_);
    else if (s.down[0] != out) std::copy_n(s.down[0], w, out);
  }

  // The same with places, for rows of one channel; theirs are the image rows low .. high.
  index places(const Scratch& s, index unit, index last) const {
    const index oh = p_.rows.outputs, ow = p_.columns.outputs, w = p_.columns.size;
    const index plane = unit / oh, n = plane / p_.c, c = plane % p_.c, begin = unit % oh;
    const index end = std::min(oh, begin + last - unit);
    index low = p_.rows.size, high = 0, i = begin;
    for (; i < end; i++) {
      const auto [first, taps] = windows_[i];
      if (!taps) continue;
      // With dilation the first and the last cell inside the image need not ascend.
      const index top = std::min(low, first), bottom = std::max(high, first + (taps - 1) * p_.rows.dilation + 1);
      if (i > begin && bottom - top > columns_.rows) break;
      low = top, high = bottom;
    }
    if (low < high) {
      x_.copy(n, c, low, high - low, w, s.padded + p_.columns.pad, columns_.pitch);
      columns_.split(s.padded, high - low);
      kernels_.max_taps_key(s.out, s.out_key, s.across, across_key_.data(), across_step_.data(), p_.columns.kernel,
                            columns_.outputs(high - low));
    }
    for (index row = begin; row < i; row++) {
      const auto [first, taps] = windows_[row];
      for (index t = 0; t < taps; t++) {
        const index at = (first + t * p_.rows.dilation - low) * columns_.out_pitch;
        s.down[t] = s.out + at, s.down_key[t] = s.out_key + at;
        s.down_step[t] = static_cast<Key<T>>(t * p_.rows.dilation * w);
      }
      if (taps) kernels_.max_taps_key(s.row, s.key, s.down, s.down_key, s.down_step, taps, round_up(ow, slack));
      else std::fill_n(s.row, ow, padding_), std::fill_n(s.key, ow, no_cell<T>);
      kernels_.cells(cells_ + (plane * oh + row) * ow, s.key, first * w, ow);
      T* y = y_.place(n, c, row, 0, s.row);
      if (y != s.row) std::copy_n(s.row, ow, y);
      y_.done(n, c, row, 0, ow, s.row);
    }
    return i - begin;
  }

  const Pooling& p_;
  const LayerKernels<T>& kernels_;
  Kind kind_;
  void (*reduce_)(T* out, const T* const* taps, index k, index n);
  T padding_;
  index* cells_;
  Source<T> x_;
  Target<T> y_;
  Columns<T> columns_;
  const Pooling& averages_;
  std::vector<T> cells_across_;
  struct Window {
    index first, taps;
    bool operator==(const Window&) const = default;
  };
  std::vector<Window> windows_;        // down: first image row, and number of rows
  std::vector<Key<T>> start_, first_;  // of the windows along a row, and of their cells inside the image
  std::vector<const Key<T>*> across_key_;
  std::vector<Key<T>> across_step_;
};

// Keys are no wider than T; refuses, before any work, windows that span more cells than they can count.
template <class T>
void check_keys(const PoolAxis& rows, const PoolAxis& columns) {
  const index below = checked_mul(rows.kernel, rows.dilation), right = checked_mul(columns.kernel, columns.dilation);
  if (checked_add(checked_mul(below, columns.size), checked_add(columns.size, right)) >= no_cell<T>)
    throw std::overflow_error("konv: a pooling window spans more cells than its indices can count");
}

// The windows of the transpose: cell q takes the outputs whose windows hold it.
PoolAxis transposed(const PoolAxis& a) {
  PoolAxis t{a.outputs, a.size};
  if (!a.adaptive() && a.stride == 1 && a.pad < a.kernel) {
    t.kernel = a.kernel, t.pad = a.kernel - 1 - a.pad;
    return t;
  }
  for (index q = 0, first = 0, last = 0; q < a.size; q++) {
    while (last < a.outputs && a.start(last) <= q) last++;
    while (first < last && a.inside(first, a.taps(first)) <= q) first++;
    t.begin.push_back(first), t.end.push_back(last);
    t.kernel = std::max(t.kernel, last - first);
  }
  return t;
}

// f(plane of the image, its output) for every channel, where there is one output, and the channel lies in one piece.
template <class T, class Image, class Output, class F>
bool each_whole(const Pooling& p, const Image& x, const Output& y, F&& f) {
  const bool whole = p.rows.whole() && p.columns.whole() && x.plane_contiguous();
  if (std::is_integral_v<T> || !whole || x.scalar != scalar_of<T> || y.scalar != scalar_of<T>) return false;
  const auto no_scratch = [](Cutter&) { return 0; };
  each_range(p.n * p.c, x.h * x.w, no_scratch, [&](int, index first, index last) {
    for (index u = first; u < last; u++) f(x.plane(u / p.c, u % p.c), y.plane(u / p.c, u % p.c));
  });
  return true;
}

}  // namespace

template <class T>
void max_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y, index* cells) {
  if (cells) check_keys<T>(p.rows, p.columns);
  Pool<T>(isa, p, x, y, Kind::maximum, p, cells).run();
}

template <class T>
void avg_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y) {
  const index cells = x.h * x.w;
  const double divisor = static_cast<double>(p.divisor ? p.divisor : cells);
  // Pieces are summed by vectors, and put together in double.
  const bool done = each_whole<T>(p, x, y, [&](const void* plane, void* out) {
    double sum = 0, part;
    for (index at = 0; at < cells; at += 4096) {
      isa.layers.of<T>().sum(static_cast<const T*>(plane) + at, std::min<index>(4096, cells - at), &part);
      sum += part;
    }
    *static_cast<T*>(out) = static_cast<T>(sum / divisor);
  });
  if (!done) Pool<T>(isa, p, x, y, Kind::average, p).run();
}

template <class T>
void avg_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const OutputView& gx) {
  const index cells = gx.h * gx.w;
  const T divisor = static_cast<T>(p.divisor ? p.divisor : cells);
  const bool done = each_whole<T>(p, gx, gy, [&](void* plane, const void* g) {
    std::fill_n(static_cast<T*>(plane), cells, *static_cast<const T*>(g) / divisor);
  });
  if (done) return;
  const PoolAxis rows = transposed(p.rows), columns = transposed(p.columns);
  Pool<T>(isa, {p.n, p.c, rows, columns}, gy, gx, Kind::transposed_average, p).run();
}

template <class T>
bool max_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx) {
  const index h = p.rows.size, w = p.columns.size, plane = checked_mul(h, w), ow = p.columns.outputs;
  const Source<T> source(isa, gy);
  const Source<index> cell_source(isa, cells);
  const Target<T> target(isa, joined_rows(gx, true));  // it is dense
  struct Scratch {
    T *plane, *row;
    index* cells;
  };
  const auto cut = [&](Cutter& c) { return Scratch{c.take<T>(plane), c.take<T>(ow), c.take<index>(ow)}; };
  bool outside = false;
  each_range(p.n * p.c, plane, cut, [&](const Scratch& s, index first, index last) {
    for (index unit = first; unit < last; unit++) {
      const index n = unit / p.c, c = unit % p.c;
      T* sums = target.place(n, c, 0, 0, s.plane);
      std::fill_n(sums, plane, T(0));
      for (index i = 0; i < p.rows.outputs; i++) {
        const T* row = source.row(n, c, i, 0, ow, s.row);
        const index* places = cell_source.row(n, c, i, 0, ow, s.cells);
        for (index j = 0; j < ow; j++) {
          const index cell = places[j];
          if (static_cast<std::uint64_t>(cell) < static_cast<std::uint64_t>(plane)) sums[cell] += row[j];
          else if (cell != -1) __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
        }
      }
      target.done(n, c, 0, 0, plane, sums);
    }
  });
  return !outside;
}

#define KONV_POOL(T)                                                                                       \
  template void max_pool<T>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&, index*); \
  template bool max_pool_gradient<T>(const IsaTable&, const Pooling&, const ImageView&, const ImageView&,  \
                                     const OutputView&);                                                   \
  template void avg_pool<T>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);         \
  template void avg_pool_gradient<T>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&)
KONV_POOL(float);
KONV_POOL(double);
KONV_POOL(index);

}  // namespace konv
