// The average of each window, and its transpose. How rows lie: columns.hpp.
#include "columns.hpp"

namespace konv {
namespace {

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
    return !std::is_integral_v<T> && whole(p_.rows) && whole(p_.columns);
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

template <class T>
void avg_pool(const IsaTable& isa, const Pooling& p, const ImageView& x, const OutputView& y) {
  AvgPool<T>(isa, p, x, y).forward();
}

template <class T>
void avg_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const OutputView& gx) {
  AvgPool<T>(isa, p, gy, gx).gradient();
}

template void avg_pool<float>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);
template void avg_pool_gradient<float>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);
template void avg_pool<double>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);
template void avg_pool_gradient<double>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);
template void avg_pool<index>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);
template void avg_pool_gradient<index>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&);

}  // namespace konv
