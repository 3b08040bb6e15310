// Pooling, one row of outputs at a time.
//
//   image rows of the window     down            across, staged by stride         out
//   r0  . . . . . . . .   \                    run 0: 0 2 4 6
//   r1  . . . . . . . .    >   . . . . . . .   run 1: 1 3 5 7    max of taps  ->  y y y y
//   r2  . . . . . . . .   /                    (padding filled)
//
// Reducing the rows first costs kh passes of vectors over rows as they lie in memory; columns are then split into the
// runs that one tap reads, so that all loads are of neighbours. Everything lives in a few rows of scratch in L1; the
// image is read from memory once, apart from the rows that windows share. Gradients of averages go the same way back,
// a row of the image's gradient at a time: each is written once, by one thread.
//
// Tasks are ranges of rows; no sum is ever split, so the bits do not depend on the number of threads.
#include "pool.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "../conv/rows.hpp"
#include "../conv/stage.hpp"
#include "rows.hpp"

namespace konv {
namespace {

template <class T>
constexpr bool integral = static_cast<T>(0.5) == T(0);
template <class T>
constexpr Scalar scalar_of = sizeof(T) == 4 ? Scalar::f32
                             : integral<T>  ? Scalar::i64
                                            : Scalar::f64;

// What padding holds when maxima are sought: the least value that memory of this kind can hold.
template <class T>
T lowest_of(Scalar scalar) {
  if constexpr (!integral<T>) return -std::numeric_limits<T>::infinity();
  switch (scalar) {
    case Scalar::u8:
      return T(0);
    case Scalar::i8:
      return std::numeric_limits<std::int8_t>::min();
    case Scalar::i16:
      return std::numeric_limits<std::int16_t>::min();
    case Scalar::i32:
      return static_cast<T>(std::numeric_limits<std::int32_t>::min());
    default:
      return std::numeric_limits<T>::lowest();
  }
}

// A row of the image split into the runs that taps read, or put together again.
template <class T>
struct Columns {
  const PoolAxis& axis;
  StagedColumns across;
  void (*copy)(T* dst, const void* src, index stride, index count);
  void (*put)(void* dst, index stride, const T* src, index count);

  Columns(const IsaTable& isa, const PoolAxis& axis)
      : axis(axis),
        across(axis.outputs, axis.stride, axis.kernel, axis.dilation, 1),
        copy(isa.rows<T>().load[static_cast<int>(scalar_of<T>)]),
        put(isa.rows<T>().store[static_cast<int>(scalar_of<T>)]) {}

  index cells() const { return across.runs * across.pitch; }

  // Cells [from, to) of a run lie inside the image; the first one at column `at`.
  struct Inside {
    index from, to, at;
  };
  Inside inside(index run) const {
    const index left = across.start(run) - axis.pad;
    const index from = std::min(across.length, left < 0 ? ceil_div(-left, axis.stride) : 0);
    const index to = left < axis.size ? std::min(across.length, ceil_div(axis.size - left, axis.stride)) : 0;
    return {from, std::max(from, to), left + from * axis.stride};
  }

  // U is T, or its key: copied as the bits of T.
  template <class U>
  void split(U* dst, const U* row, U fill) const {
    static_assert(sizeof(U) == sizeof(T));
    for (index run = 0; run < across.runs; run++, dst += across.pitch) {
      const Inside in = inside(run);
      std::fill(dst, dst + in.from, fill);
      copy(reinterpret_cast<T*>(dst + in.from), row + in.at, axis.stride, in.to - in.from);
      std::fill(dst + in.to, dst + across.length, fill);
    }
  }
  // Runs never share a column: they are phases of the stride, or taps further apart than the stride.
  void join(T* row, const T* src) const {
    std::fill_n(row, axis.size, T(0));
    for (index run = 0; run < across.runs; run++, src += across.pitch) {
      const Inside in = inside(run);
      if (in.to > in.from) put(row + in.at, axis.stride, src + in.from, in.to - in.from);
    }
  }
  template <class U>
  void taps(U** places, U* staged) const {
    for (index t = 0; t < axis.kernel; t++) places[t] = staged + across.offset(t);
  }
  // All taps of all outputs are neighbours inside the row: nothing to stage.
  bool direct() const {
    return axis.stride == 1 && !axis.pad && axis.outputs - 1 + (axis.kernel - 1) * axis.dilation < axis.size;
  }
  template <class U>
  void taps_in_row(U** places, U* row) const {
    for (index t = 0; t < axis.kernel; t++) places[t] = row + t * axis.dilation;
  }
};

struct Unit {  // one row of one channel
  index n, c, row;
  Unit(index unit, index channels, index rows)
      : n(unit / rows / channels), c(unit / rows % channels), row(unit % rows) {}
};

index window_cells(const Pooling& p) {
  return ceil_div(p.rows.size, std::max<index>(p.rows.outputs, 1)) * p.columns.size;
}

index regular_taps(const PoolAxis& axis) { return axis.adaptive() ? 0 : axis.kernel; }

// ---- maximum --------------------------------------------------------------------------------------------------------
template <class T>
class MaxPool {
 public:
  MaxPool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y, index* cells)
      : p_(p),
        kernels_(isa.layers.of<T>()),
        reader_(isa, x, PadMode::zeros),
        writer_(isa, y),
        columns_(isa, p.columns),
        cells_(cells),
        lowest_(lowest_of<T>(x.scalar)) {}

  void run() const {
    const int slots = num_threads();
    Cutter counter;
    Scratch(counter, *this);
    const Workspace workspace(0, counter.used(), slots);
    parallel_ranges(p_.n * p_.c * p_.rows.outputs, window_cells(p_), slots, [&](index first, index last, int slot) {
      Cutter cutter(workspace.slot<char>(slot));
      const Scratch s(cutter, *this);
      for (index unit = first; unit < last; unit++) row(s, Unit(unit, p_.c, p_.rows.outputs), unit);
    });
  }

 private:
  struct Scratch {
    T *read, *best, *staged, *out;
    Key<T>*key, *staged_key, *out_key, *right;
    const T** taps;
    const Key<T>** key_taps;

    Scratch(Cutter& cut, const MaxPool& m) {
      const index w = m.p_.columns.size, ow = m.p_.columns.outputs, k = regular_taps(m.p_.columns);
      const index staged_cells = m.p_.columns.adaptive() ? 0 : m.columns_.cells();
      read = cut.take<T>(w), best = cut.take<T>(w), out = cut.take<T>(ow), staged = cut.take<T>(staged_cells);
      taps = cut.take<const T*>(k);
      const bool keys = m.cells_;
      key = cut.take<Key<T>>(keys ? w : 0), out_key = cut.take<Key<T>>(keys ? ow : 0);
      staged_key = cut.take<Key<T>>(keys ? staged_cells : 0), right = cut.take<Key<T>>(keys ? k : 0);
      key_taps = cut.take<const Key<T>*>(keys ? k : 0);
      for (index t = 0; t < k && right && keys; t++) right[t] = static_cast<Key<T>>(t * m.p_.columns.dilation);
    }
  };

  const T* image_row(const Scratch& s, const Unit& u, index r) const {
    if (const T* in_place = reader_.in_place(u.n, u.c, r)) return in_place;
    reader_.read(s.read, u.n, u.c, r, 0, 1, p_.columns.size);
    return s.read;
  }

  void row(const Scratch& s, const Unit& u, index unit) const {
    down(s, u);
    if (p_.columns.adaptive())
      across_adaptive(s);
    else
      across(s);
    const index ow = p_.columns.outputs;
    writer_.write(s.out, u.n, u.c, u.row, 0, ow);
    if (!cells_) return;
    const index base = p_.rows.start(u.row) * p_.columns.size;
    if (p_.columns.adaptive())
      kernels_.cells(cells_ + unit * ow, s.out_key, base, 0, ow);
    else
      kernels_.cells(cells_ + unit * ow, s.out_key, base - p_.columns.pad, p_.columns.stride, ow);
  }

  void down(const Scratch& s, const Unit& u) const {
    const index w = p_.columns.size, first = p_.rows.first(u.row), last = p_.rows.last(u.row);
    const index start = p_.rows.start(u.row), step = p_.rows.adaptive() ? 1 : p_.rows.dilation;
    if (first >= last) {
      std::fill_n(s.best, w, lowest_);
      if (cells_) std::fill_n(s.key, w, no_cell<T>);
      return;
    }
    std::copy_n(image_row(s, u, start + first * step), w, s.best);
    if (cells_) std::fill_n(s.key, w, static_cast<Key<T>>(first * step * w));
    for (index t = first + 1; t < last; t++) {
      const T* x = image_row(s, u, start + t * step);
      if (cells_)
        kernels_.max_key(s.best, s.key, x, static_cast<Key<T>>(t * step * w), w);
      else
        kernels_.max(s.best, x, w);
    }
  }

  void across(const Scratch& s) const {
    const bool direct = columns_.direct();
    if (direct) {
      columns_.template taps_in_row<const T>(s.taps, s.best);
    } else {
      columns_.split(s.staged, s.best, lowest_);
      columns_.template taps<const T>(s.taps, s.staged);
    }
    const index k = p_.columns.kernel, ow = p_.columns.outputs;
    if (!cells_) return kernels_.max_taps(s.out, s.taps, k, ow);
    if (direct) {
      columns_.template taps_in_row<const Key<T>>(s.key_taps, s.key);
    } else {
      columns_.split(s.staged_key, s.key, no_cell<T>);
      columns_.template taps<const Key<T>>(s.key_taps, s.staged_key);
    }
    kernels_.max_taps_key(s.out, s.out_key, s.taps, s.key_taps, s.right, k, ow);
  }

  void across_adaptive(const Scratch& s) const {
    for (index j = 0; j < p_.columns.outputs; j++) {
      const index begin = p_.columns.begin[j], end = p_.columns.end[j];
      T best = s.best[begin];
      Key<T> at = cells_ ? s.key[begin] + static_cast<Key<T>>(begin) : 0;
      for (index q = begin + 1; q < end; q++) {
        const T v = s.best[q];
        const Key<T> here = cells_ ? s.key[q] + static_cast<Key<T>>(q) : 0;
        const bool chosen = v > best || (v == best && here < at) || (v != v && (best == best || here > at));
        if (chosen) best = v, at = here;
      }
      s.out[j] = best;
      if (cells_) s.out_key[j] = at;
    }
  }

  const Pooling& p_;
  const LayerKernels<T>& kernels_;
  RowReader<T> reader_;
  RowWriter<T> writer_;
  Columns<T> columns_;
  index* cells_;
  T lowest_;
};

// ---- average --------------------------------------------------------------------------------------------------------

// The divisors of a row of outputs, kept while the next row has as many rows in its windows.
template <class T>
class Divisors {
 public:
  Divisors(const Pooling& p, T* row) : p_(p), row_(row) {}
  const T* of(index i) {
    const index rows = p_.rows.count(i, p_.count_pad);
    if (rows != rows_)
      for (index j = 0; j < p_.columns.outputs; j++)
        row_[j] = static_cast<T>(p_.divisor ? p_.divisor : rows * p_.columns.count(j, p_.count_pad));
    rows_ = rows;
    return row_;
  }

 private:
  const Pooling& p_;
  T* row_;
  index rows_ = std::numeric_limits<index>::min();
};

template <class T>
class AvgPool {
 public:
  // x and y of the forward direction; the gradient reads gy (as x) and writes gx (as y).
  AvgPool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y)
      : p_(p),
        kernels_(isa.layers.of<T>()),
        x_(x),
        reader_(isa, x, PadMode::zeros),
        writer_(isa, y),
        columns_(isa, p.columns) {}

  void forward() const {
    const auto whole = [](const PoolAxis& a) {
      return a.outputs == 1 && a.first(0) == 0 && a.taps(0) == a.size && a.dilation == 1;
    };
    if constexpr (!integral<T>)
      if (whole(p_.rows) && whole(p_.columns) && x_.plane_contiguous() && reader_.in_place(0, 0, 0)) return planes();
    each(p_.rows.outputs, [this](const Scratch& s, Divisors<T>& divisors, const Unit& u) { row(s, divisors, u); });
  }
  void gradient() const {
    each(p_.rows.size, [this](const Scratch& s, Divisors<T>& divisors, const Unit& u) { row_back(s, divisors, u); });
  }

 private:
  struct Scratch {
    T *read, *sum, *staged, *out, *divisors;
    T** taps;

    Scratch(Cutter& cut, const AvgPool& m) {
      const index w = std::max(m.p_.columns.size, m.p_.columns.outputs);
      read = cut.take<T>(w), sum = cut.take<T>(w), out = cut.take<T>(w), divisors = cut.take<T>(w);
      staged = cut.take<T>(m.p_.columns.adaptive() ? 0 : m.columns_.cells());
      taps = cut.take<T*>(regular_taps(m.p_.columns));
    }
  };

  template <class F>
  void each(index rows, F&& f) const {
    const int slots = num_threads();
    Cutter counter;
    Scratch(counter, *this);
    const Workspace workspace(0, counter.used(), slots);
    parallel_ranges(p_.n * p_.c * rows, window_cells(p_), slots, [&](index first, index last, int slot) {
      Cutter cutter(workspace.slot<char>(slot));
      const Scratch s(cutter, *this);
      Divisors<T> divisors(p_, s.divisors);
      for (index unit = first; unit < last; unit++) f(s, divisors, Unit(unit, p_.c, rows));
    });
  }

  const T* read_row(const Scratch& s, const Unit& u, index r, index width) const {
    if (const T* in_place = reader_.in_place(u.n, u.c, r)) return in_place;
    reader_.read(s.read, u.n, u.c, r, 0, 1, width);
    return s.read;
  }

  // One output a channel, and the channel in one piece: a plain sum.
  void planes() const {
    const index cells = p_.rows.size * p_.columns.size;
    T divisor;
    Divisors<T>(p_, &divisor).of(0);
    parallel_ranges(p_.n * p_.c, cells, num_threads(), [&](index first, index last, int) {
      for (index plane = first; plane < last; plane++) {
        const T* x = static_cast<const T*>(x_.plane(plane / p_.c, plane % p_.c));
        double sum = 0;
        for (index at = 0; at < cells; at += 4096) {
          double part;
          kernels_.sum(x + at, std::min<index>(4096, cells - at), &part);
          sum += part;
        }
        const T mean = static_cast<T>(sum / static_cast<double>(divisor));
        writer_.write(&mean, plane / p_.c, plane % p_.c, 0, 0, 1);
      }
    });
  }

  void row(const Scratch& s, Divisors<T>& divisors, const Unit& u) const {
    const index w = p_.columns.size, ow = p_.columns.outputs;
    const index first = p_.rows.first(u.row), last = p_.rows.last(u.row), start = p_.rows.start(u.row);
    if (first < last)
      std::copy_n(read_row(s, u, start + first, w), w, s.sum);
    else
      std::fill_n(s.sum, w, T(0));
    for (index t = first + 1; t < last; t++) kernels_.add(s.sum, read_row(s, u, start + t, w), w);
    if (p_.columns.adaptive()) {
      for (index j = 0; j < ow; j++) {
        s.out[j] = s.sum[p_.columns.begin[j]];
        for (index q = p_.columns.begin[j] + 1; q < p_.columns.end[j]; q++) s.out[j] += s.sum[q];
      }
    } else {
      if (columns_.direct()) {
        columns_.template taps_in_row<T>(s.taps, s.sum);
      } else {
        columns_.split(s.staged, s.sum, T(0));
        columns_.template taps<T>(s.taps, s.staged);
      }
      kernels_.sum_taps(s.out, s.taps, p_.columns.kernel, ow);
    }
    kernels_.divide(s.out, divisors.of(u.row), ow);
    writer_.write(s.out, u.n, u.c, u.row, 0, ow);
  }

  // A row of gx: the gradients of all rows of outputs whose windows hold it, summed, then spread over the columns.
  void row_back(const Scratch& s, Divisors<T>& divisors, const Unit& u) const {
    const index ow = p_.columns.outputs;
    std::fill_n(s.sum, ow, T(0));
    const auto [first, last] = outputs_of(u.row);
    for (index i = first; i < last; i++) kernels_.add_divided(s.sum, read_row(s, u, i, ow), divisors.of(i), ow);
    if (p_.columns.adaptive()) {
      std::fill_n(s.out, p_.columns.size, T(0));
      for (index j = 0; j < ow; j++)
        for (index q = p_.columns.begin[j]; q < p_.columns.end[j]; q++) s.out[q] += s.sum[j];
    } else {
      std::fill_n(s.staged, columns_.cells(), T(0));
      columns_.template taps<T>(s.taps, s.staged);
      kernels_.spread_taps(s.taps, p_.columns.kernel, s.sum, ow);
      columns_.join(s.out, s.staged);
    }
    writer_.write(s.out, u.n, u.c, u.row, 0, p_.columns.size);
  }

  // The rows of outputs whose windows hold image row r.
  std::pair<index, index> outputs_of(index r) const {
    const PoolAxis& a = p_.rows;
    if (a.adaptive())
      return {std::upper_bound(a.end, a.end + a.outputs, r) - a.end,
              std::upper_bound(a.begin, a.begin + a.outputs, r) - a.begin};
    const index low = r + a.pad - a.kernel + 1;
    return {low <= 0 ? 0 : ceil_div(low, a.stride), std::min(a.outputs, (r + a.pad) / a.stride + 1)};
  }

  const Pooling& p_;
  const LayerKernels<T>& kernels_;
  ImageView x_;
  RowReader<T> reader_;
  RowWriter<T> writer_;
  Columns<T> columns_;
};

}  // namespace

const Pooling& Pooling::checked(index key_bits) const {
  const index rows_below = rows.adaptive() ? rows.size : checked_mul(rows.kernel - 1, rows.dilation);
  const index across = columns.adaptive() ? columns.size : checked_mul(columns.kernel - 1, columns.dilation);
  const index keys = checked_add(checked_mul(rows_below, columns.size), checked_add(columns.size, across));
  if (keys >= index{1} << (key_bits - 2))
    throw std::overflow_error("konv: a pooling window spans more cells than its indices can count");
  return *this;
}

template <class T>
void max_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y, index* cells) {
  MaxPool<T>(isa, p.checked(8 * sizeof(Key<T>)), x, y, cells).run();
}

template <class T>
void avg_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y) {
  AvgPool<T>(isa, p, x, y).forward();
}

template <class T>
void avg_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const OutputView& gx) {
  AvgPool<T>(isa, p, gy, gx).gradient();
}

template <class T>
bool max_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx) {
  const index h = p.rows.size, w = p.columns.size, oh = p.rows.outputs, ow = p.columns.outputs;
  const RowReader<T> reader(isa, gy, PadMode::zeros);
  const RowReader<index> cell_reader(isa, cells, PadMode::zeros);
  const RowWriter<T> writer(isa, gx);
  const int slots = num_threads();
  const bool own_plane = gx.scalar != scalar_of<T> || !gx.plane_contiguous();
  Cutter counter;
  const auto cut = [&](Cutter& c) {
    struct {
      T *plane, *row;
      index* cells;
    } s{c.take<T>(own_plane ? checked_mul(h, w) : 0), c.take<T>(ow), c.take<index>(ow)};
    return s;
  };
  cut(counter);
  const Workspace workspace(0, counter.used(), slots);
  bool outside = false;
  parallel_ranges(p.n * p.c, checked_mul(h, w), slots, [&](index first, index last, int slot) {
    Cutter cutter(workspace.slot<char>(slot));
    const auto s = cut(cutter);
    for (index unit = first; unit < last; unit++) {
      const index n = unit / p.c, c = unit % p.c;
      T* plane = own_plane ? s.plane : static_cast<T*>(gx.plane(n, c));
      std::fill_n(plane, h * w, T(0));
      for (index i = 0; i < oh; i++) {
        reader.read(s.row, n, c, i, 0, 1, ow);
        cell_reader.read(s.cells, n, c, i, 0, 1, ow);
        for (index j = 0; j < ow; j++) {
          const index cell = s.cells[j];
          if (static_cast<std::uint64_t>(cell) < static_cast<std::uint64_t>(h * w))
            plane[cell] += s.row[j];
          else if (cell != -1)
            __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
        }
      }
      if (own_plane)
        for (index r = 0; r < h; r++) writer.write(plane + r * w, n, c, r, 0, w);
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
