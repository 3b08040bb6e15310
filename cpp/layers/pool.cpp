// The largest cell of each window, and the gradient that goes back to it. How rows lie: columns.hpp.
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
bool max_pool_gradient(const IsaTable& isa, const Pooling& p, const ImageView& gy, const ImageView& cells,
                       const OutputView& gx) {
  const bool whole = gy.scalar == scalar_of<T> && gy.plane_contiguous() && cells.plane_contiguous();
  const index h = p.rows.size, w = p.columns.size, oh = whole ? 1 : p.rows.outputs;
  const index ow = whole ? p.rows.outputs * p.columns.outputs : p.columns.outputs;  // a plane in one piece is one row
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
    } s{c.take<T>(own_plane ? checked_mul(h, w) : 0), c.take<T>(whole ? 0 : ow), c.take<index>(whole ? 0 : ow)};
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
        const T* row = whole ? static_cast<const T*>(gy.plane(n, c)) : s.row;
        const index* places = whole ? static_cast<const index*>(cells.plane(n, c)) : s.cells;
        if (!whole) {
          reader.read(s.row, n, c, i, 0, 1, ow);
          cell_reader.read(s.cells, n, c, i, 0, 1, ow);
        }
        for (index j = 0; j < ow; j++) {
          const index cell = places[j];
          if (static_cast<std::uint64_t>(cell) < static_cast<std::uint64_t>(h * w)) plane[cell] += row[j];
          else if (cell != -1) __atomic_store_n(&outside, true, __ATOMIC_RELAXED);
        }
      }
      if (own_plane)
        for (index r = 0; r < h; r++) writer.write(plane + r * w, n, c, r, 0, w);
    }
  });
  return !outside;
}

template void max_pool<float>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&, index*);
template bool max_pool_gradient<float>(const IsaTable&, const Pooling&, const ImageView&, const ImageView&,
                                       const OutputView&);
template void max_pool<double>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&, index*);
template bool max_pool_gradient<double>(const IsaTable&, const Pooling&, const ImageView&, const ImageView&,
                                        const OutputView&);
template void max_pool<index>(const IsaTable&, const Pooling&, const ImageView&, const OutputView&, index*);
template bool max_pool_gradient<index>(const IsaTable&, const Pooling&, const ImageView&, const ImageView&,
                                       const OutputView&);

}  // namespace konv
