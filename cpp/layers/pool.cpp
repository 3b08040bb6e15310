// Pooling, a few rows of outputs at a time.
//
//   image rows of a window      down, into padded rows side by side     across: phases of the stride    out
//   r0  . . . . . .   \                                                   0: 0 2 4 | 0 2 4
//   r1  . . . . . .    >        # . . . . . . # | # . . . . . . #         1: 1 3 5 | 1 3 5   max -> y y y x y y y
//   r2  . . . . . .   /         <---- pitch --->  the next output row
//
// Reducing the rows first costs kh passes of vectors over rows as they lie in memory. Columns are then split into the
// phases of the stride, so that every tap reads neighbours; rows side by side keep the vectors full where images are
// narrow (the x between rows are computed for nothing). All of it lives in a few KiB of scratch in L1; the image is
// read from memory once, apart from the rows that windows share. Gradients of averages go the same way back, for rows
// of the image's gradient: each is written once, by one thread.
//
// Tasks are ranges of rows; no sum is ever split, so the bits do not depend on the number of threads.
#include "pool.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "../conv/rows.hpp"
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

// Padded rows side by side, and their phases: cell q of row r stands at r*pitch + pad + q, output j of row r at
// r*out_pitch + j. Taps of outputs beyond a row's own read the next row: in bounds, and of no use.
template <class T>
struct Columns {
  const PoolAxis& axis;
  index stride, pad, pitch, out_pitch, rows, phases;
  void (*load)(T* dst, const void* src, index stride, index count);
  void (*store)(void* dst, index stride, const T* src, index count);

  Columns(const IsaTable& isa, const PoolAxis& axis)
      : axis(axis),
        stride(axis.outputs == 1 || axis.adaptive() ? 1 : axis.stride),
        pad(axis.adaptive() ? 0 : axis.pad),
        load(isa.rows<T>().load[static_cast<int>(scalar_of<T>)]),
        store(isa.rows<T>().store[static_cast<int>(scalar_of<T>)]) {
    const index reach = (axis.outputs - 1) * stride + (axis.kernel - 1) * axis.dilation + 1;
    pitch = round_up(std::max({reach, axis.size + pad, axis.outputs}), stride);
    out_pitch = pitch / stride;
    rows = std::clamp<index>(1024 / pitch, 1, 64);
    phases = std::min(axis.kernel, stride / std::gcd(stride, axis.dilation));  // those that taps read
  }
  index cells() const { return rows * pitch; }
  index outputs(index count) const { return (count - 1) * out_pitch + axis.outputs; }

  // U is T, or its key: moved as the bits of T. `staged` is not used at stride 1, where rows are their own phase.
  template <class U>
  void split(U* staged, const U* padded, index count) const {
    static_assert(sizeof(U) == sizeof(T));
    for (index t = 0; t < phases && stride > 1; t++) {
      const index phase = t * axis.dilation % stride;
      load(reinterpret_cast<T*>(staged + phase * rows * out_pitch), padded + phase, stride, count * out_pitch);
    }
  }
  void join(T* padded, const T* staged, index count) const {
    for (index t = 0; t < phases && stride > 1; t++) {
      const index phase = t * axis.dilation % stride;
      store(padded + phase, stride, staged + phase * rows * out_pitch, count * out_pitch);
    }
  }
  template <class U>
  void taps(U** places, U* staged, U* padded) const {
    for (index t = 0; t < axis.kernel; t++) {
      const index right = t * axis.dilation;
      places[t] = stride == 1 ? padded + right : staged + right % stride * rows * out_pitch + right / stride;
    }
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
      std::fill_n(s.best, columns_.cells(), lowest_);
      if (cells_) std::fill_n(s.key, columns_.cells(), no_cell<T>);
      for (index unit = first; unit < last; unit += columns_.rows) rows(s, unit, std::min(columns_.rows, last - unit));
    });
  }

 private:
  struct Scratch {
    T *read, *best, *staged, *out;
    Key<T>*key, *staged_key, *out_key, *right;
    const T** taps;
    const Key<T>** key_taps;

    Scratch(Cutter& cut, const MaxPool& m) {
      const index cells = m.columns_.cells(), k = m.p_.columns.kernel, keys = m.cells_ ? cells : 0;
      read = cut.take<T>(m.p_.columns.size);
      best = cut.take<T>(cells), out = cut.take<T>(cells), staged = cut.take<T>(cells), taps = cut.take<const T*>(k);
      key = cut.take<Key<T>>(keys), out_key = cut.take<Key<T>>(keys), staged_key = cut.take<Key<T>>(keys);
      right = cut.take<Key<T>>(k), key_taps = cut.take<const Key<T>*>(k);
      if (!right) return;  // only counting
      for (index t = 0; t < k; t++) right[t] = static_cast<Key<T>>(t * m.p_.columns.dilation);
      m.columns_.template taps<const T>(taps, staged, best);
      m.columns_.template taps<const Key<T>>(key_taps, staged_key, key);
    }
  };

  void rows(const Scratch& s, index unit, index count) const {
    for (index r = 0; r < count; r++) {
      const index at = r * columns_.pitch + columns_.pad;
      down(s, Unit(unit + r, p_.c, p_.rows.outputs), s.best + at, s.key + at);
    }
    if (p_.columns.adaptive()) across_adaptive(s, count);
    else across(s, count);
    const index ow = p_.columns.outputs, step = p_.columns.adaptive() ? 0 : p_.columns.stride;
    for (index r = 0; r < count; r++) {
      const Unit u(unit + r, p_.c, p_.rows.outputs);
      writer_.write(s.out + r * columns_.out_pitch, u.n, u.c, u.row, 0, ow);
      const index base = p_.rows.start(u.row) * p_.columns.size - columns_.pad;
      if (cells_) kernels_.cells(cells_ + (unit + r) * ow, s.out_key + r * columns_.out_pitch, base, step, ow);
    }
  }

  void down(const Scratch& s, const Unit& u, T* best, Key<T>* key) const {
    const index w = p_.columns.size, first = p_.rows.first(u.row), last = p_.rows.last(u.row);
    const index start = p_.rows.start(u.row), step = p_.rows.dilation;
    if (first >= last) std::fill_n(best, w, lowest_);
    if (first >= last && cells_) std::fill_n(key, w, no_cell<T>);
    for (index t = first; t < last; t++) {
      const T* x = reader_.in_place(u.n, u.c, start + t * step);
      if (!x) reader_.read(s.read, u.n, u.c, start + t * step, 0, 1, w), x = s.read;
      const Key<T> here = static_cast<Key<T>>(t * step * w);
      if (t == first) {
        std::copy_n(x, w, best);
        if (cells_) std::fill_n(key, w, here);
      } else if (cells_) {
        kernels_.max_key(best, key, x, here, w);
      } else {
        kernels_.max(best, x, w);
      }
    }
  }

  void across(const Scratch& s, index count) const {
    columns_.split(s.staged, s.best, count);
    const index k = p_.columns.kernel, n = columns_.outputs(count);
    if (!cells_) return kernels_.max_taps(s.out, s.taps, k, n);
    columns_.split(s.staged_key, s.key, count);
    kernels_.max_taps_key(s.out, s.out_key, s.taps, s.key_taps, s.right, k, n);
  }

  void across_adaptive(const Scratch& s, index count) const {
    for (index unit = 0; unit < count * p_.columns.outputs; unit++) {
      const index r = unit / p_.columns.outputs, j = unit % p_.columns.outputs;
      const index begin = p_.columns.begin[j], end = p_.columns.end[j], row = r * columns_.pitch;
      T best = s.best[row + begin];
      Key<T> at = cells_ ? s.key[row + begin] + static_cast<Key<T>>(begin) : 0;
      for (index q = begin + 1; q < end; q++) {
        const T v = s.best[row + q];
        const Key<T> here = cells_ ? s.key[row + q] + static_cast<Key<T>>(q) : 0;
        const bool chosen = v > best || (v == best && here < at) || (v != v && (best == best || here > at));
        if (chosen) best = v, at = here;
      }
      s.out[r * columns_.out_pitch + j] = best;
      if (cells_) s.out_key[r * columns_.out_pitch + j] = at;
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

// What rows of outputs are divided by; windows of neighbouring rows take turns between a few numbers of rows.
template <class T>
class Divisors {
 public:
  static constexpr index kept = 4;
  Divisors(const Pooling& p, T* rows) : p_(p), rows_(rows) { std::fill_n(count_, kept, index{-1}); }
  const T* of(index i) {
    const index rows = p_.rows.count(i, p_.count_pad), ow = p_.columns.outputs;
    T* row = rows_ + (rows & (kept - 1)) * ow;
    index& held = count_[rows & (kept - 1)];
    if (rows != held)
      for (index j = 0; j < ow; j++)
        row[j] = static_cast<T>(p_.divisor ? p_.divisor : rows * p_.columns.count(j, p_.count_pad));
    held = rows;
    return row;
  }

 private:
  const Pooling& p_;
  T* rows_;
  index count_[kept];
};

template <class T>
class AvgPool {
 public:
  // x and y of the forward direction; the gradient reads gy (as x) and writes gx (as y).
  AvgPool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y)
      : p_(p),
        kernels_(isa.layers.of<T>()),
        x_(x),
        y_(y),
        reader_(isa, x, PadMode::zeros),
        writer_(isa, y),
        columns_(isa, p.columns) {}

  void forward() const {
    if (one_window() && x_.plane_contiguous() && x_.scalar == scalar_of<T>) return each_plane(true);
    each(p_.rows.outputs,
         [this](const Scratch& s, Divisors<T>& divisors, index unit, index count) { rows(s, divisors, unit, count); });
  }
  void gradient() const {
    if (one_window() && y_.plane_contiguous() && y_.scalar == scalar_of<T>) return each_plane(false);
    each(p_.rows.size, [this](const Scratch& s, Divisors<T>& divisors, index unit, index count) {
      rows_back(s, divisors, unit, count);
    });
  }

 private:
  struct Scratch {
    T *read, *padded, *staged, *out, *divisors;
    T** taps;

    Scratch(Cutter& cut, const AvgPool& m) {
      const index cells = m.columns_.cells();
      read = cut.take<T>(std::max(m.p_.columns.size, m.p_.columns.outputs));
      padded = cut.take<T>(cells), staged = cut.take<T>(cells), out = cut.take<T>(cells);
      divisors = cut.take<T>(Divisors<T>::kept * m.p_.columns.outputs), taps = cut.take<T*>(m.p_.columns.kernel);
      if (taps) m.columns_.template taps<T>(taps, staged, padded);
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
      std::fill_n(s.padded, columns_.cells(), T(0));
      Divisors<T> divisors(p_, s.divisors);
      for (index unit = first; unit < last; unit += columns_.rows)
        f(s, divisors, unit, std::min(columns_.rows, last - unit));
    });
  }

  const T* read_row(const Scratch& s, const Unit& u, index r, index width) const {
    if (const T* in_place = reader_.in_place(u.n, u.c, r)) return in_place;
    reader_.read(s.read, u.n, u.c, r, 0, 1, width);
    return s.read;
  }

  bool one_window() const {
    const auto whole = [](const PoolAxis& a) { return a.outputs == 1 && a.first(0) == 0 && a.taps(0) == a.size; };
    return !integral<T> && whole(p_.rows) && whole(p_.columns);
  }

  // One output a channel, and the channel in one piece: a plain sum, or one value everywhere.
  void each_plane(bool forward) const {
    const index cells = p_.rows.size * p_.columns.size;
    T row[Divisors<T>::kept];
    const T divisor = *Divisors<T>(p_, row).of(0);
    parallel_ranges(p_.n * p_.c, cells, num_threads(), [&](index first, index last, int) {
      for (index plane = first; plane < last; plane++) {
        const index n = plane / p_.c, c = plane % p_.c;
        T value;
        if (!forward) {
          reader_.read(&value, n, c, 0, 0, 1, 1);
          std::fill_n(static_cast<T*>(y_.plane(n, c)), cells, value / divisor);
          continue;
        }
        const T* x = static_cast<const T*>(x_.plane(n, c));
        double sum = 0, part;
        for (index at = 0; at < cells; at += 4096) {
          kernels_.sum(x + at, std::min<index>(4096, cells - at), &part);
          sum += part;
        }
        value = static_cast<T>(sum / static_cast<double>(divisor));
        writer_.write(&value, n, c, 0, 0, 1);
      }
    });
  }

  void rows(const Scratch& s, Divisors<T>& divisors, index unit, index count) const {
    const index w = p_.columns.size, ow = p_.columns.outputs;
    for (index r = 0; r < count; r++) {
      const Unit u(unit + r, p_.c, p_.rows.outputs);
      const index first = p_.rows.first(u.row), last = p_.rows.last(u.row), start = p_.rows.start(u.row);
      T* sum = s.padded + r * columns_.pitch + columns_.pad;
      if (first < last) std::copy_n(read_row(s, u, start + first, w), w, sum);
      else std::fill_n(sum, w, T(0));
      for (index t = first + 1; t < last; t++) kernels_.add(sum, read_row(s, u, start + t, w), w);
    }
    if (p_.columns.adaptive()) {
      for (index at = 0; at < count * ow; at++) {
        const T* sum = s.padded + at / ow * columns_.pitch;
        T total = sum[p_.columns.begin[at % ow]];
        for (index q = p_.columns.begin[at % ow] + 1; q < p_.columns.end[at % ow]; q++) total += sum[q];
        s.out[at / ow * columns_.out_pitch + at % ow] = total;
      }
    } else {
      columns_.split(s.staged, s.padded, count);
      kernels_.sum_taps(s.out, s.taps, p_.columns.kernel, columns_.outputs(count));
    }
    for (index r = 0; r < count; r++) {
      const Unit u(unit + r, p_.c, p_.rows.outputs);
      T* out = s.out + r * columns_.out_pitch;
      kernels_.divide(out, divisors.of(u.row), ow);
      writer_.write(out, u.n, u.c, u.row, 0, ow);
    }
  }

  // Rows of gx: the gradients of all rows of outputs whose windows hold them, summed, then spread over the columns.
  void rows_back(const Scratch& s, Divisors<T>& divisors, index unit, index count) const {
    const index w = p_.columns.size, ow = p_.columns.outputs;
    std::fill_n(s.out, count * columns_.out_pitch, T(0));
    std::fill_n(columns_.stride == 1 ? s.padded : s.staged, columns_.cells(), T(0));
    for (index r = 0; r < count; r++) {
      const Unit u(unit + r, p_.c, p_.rows.size);
      const auto [first, last] = outputs_of(u.row);
      T* sum = s.out + r * columns_.out_pitch;
      for (index i = first; i < last; i++) kernels_.add_divided(sum, read_row(s, u, i, ow), divisors.of(i), ow);
      for (index j = 0; j < ow && p_.columns.adaptive(); j++)
        for (index q = p_.columns.begin[j]; q < p_.columns.end[j]; q++) s.padded[r * columns_.pitch + q] += sum[j];
    }
    if (!p_.columns.adaptive()) {
      kernels_.spread_taps(s.taps, p_.columns.kernel, s.out, columns_.outputs(count));
      columns_.join(s.padded, s.staged, count);
    }
    for (index r = 0; r < count; r++) {
      const Unit u(unit + r, p_.c, p_.rows.size);
      writer_.write(s.padded + r * columns_.pitch + columns_.pad, u.n, u.c, u.row, 0, w);
    }
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
  OutputView y_;
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
          if (static_cast<std::uint64_t>(cell) < static_cast<std::uint64_t>(h * w)) plane[cell] += s.row[j];
          else if (cell != -1) __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
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
