// Passes over images, a piece of a channel at a time.
//
//   channel (h, w)   |-- piece 0: rows 0 .. r --|-- piece 1 --|--   about 4096 cells, which stay in L1 between the
//                                                                  passes of a kernel; rows longer than that are cut
//
// Statistics of a piece are summed in the compute type T by vectors, pieces are put together in double (T. Chan, G.
// Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979). Pieces are cut
// by the image's shape alone and joined in order, so the bits do not depend on the number of threads.
#include "passes.hpp"

#include <vector>

#include "rows.hpp"

namespace konv {
namespace {

constexpr index piece_cells = 4096;

struct Piece {
  index number, n, c, count;
};

index pieces_across(const PassArrays& a) { return ceil_div(a.images[0].w, piece_cells); }
index rows_of_piece(const PassArrays& a) { return std::clamp<index>(piece_cells / a.images[0].w, 1, a.images[0].h); }
index pieces_of_channel(const PassArrays& a) { return ceil_div(a.images[0].h, rows_of_piece(a)) * pieces_across(a); }

// f(piece, x, g, y) for every piece of every channel; g is x where there is none.
template <class T, class F>
void each_piece(const IsaTable& isa, const PassArrays& a, F&& f) {
  const auto& [x_view, g_view] = a.images;
  const RowReader<T> x_rows(isa, x_view, PadMode::zeros), g_rows(isa, g_view, PadMode::zeros);
  const RowWriter<T> y_rows(isa, a.y);
  const index pieces = pieces_of_channel(a), rows = rows_of_piece(a), width = std::min(x_view.w, piece_cells);
  const auto cut = [&](Cutter& cutter) { return cutter.take<T>(3 * piece_cells); };
  each_range(a.n * a.c * pieces, rows * width, cut, [&](T* buffer, index unit, index last) {
    for (; unit < last; unit++) {
      const index plane = unit / pieces, n = plane / a.c, c = plane % a.c, piece = unit % pieces;
      const index row = piece / pieces_across(a) * rows, column = piece % pieces_across(a) * width;
      const index height = std::min(rows, x_view.h - row), count = std::min(width, x_view.w - column);
      const Piece p{unit, n, c, height * count};
      const T* x = rows_of(x_rows, x_view, n, c, row, height, column, count, buffer);
      const T* g = g_view.data ? rows_of(g_rows, g_view, n, c, row, height, column, count, buffer + piece_cells) : x;
      if (!a.y.data) f(p, x, g, nullptr);
      else
        fill_rows(y_rows, a.y, n, c, row, height, column, count, buffer + 2 * piece_cells,
                  [&](T* y) { f(p, x, g, y); });
    }
  });
}

struct Moments {  // mean, and sum of squared deviations from it
  double count = 0, first = 0, second = 0;
  void join(const Moments& more) {
    const double all = count + more.count, delta = more.first - first;
    first += delta * (more.count / all);
    second += more.second + delta * delta * (count * more.count / all);
    count = all;
  }
};

struct Sums {
  double first = 0, second = 0;
  void join(const Sums& more) { first += more.first, second += more.second; }
};

// a.sums of every channel from total(piece, x, g) of its pieces; Total is Moments or Sums.
template <class T, class Total, class F>
void reduce(const IsaTable& isa, const PassArrays& a, F&& total) {
  const index planes = a.n * a.c, pieces = pieces_of_channel(a);
  std::vector<Total> found(static_cast<std::size_t>(checked_mul(planes, pieces)));
  each_piece<T>(isa, a, [&](const Piece& p, const T* x, const T* g, T*) { found[p.number] = total(p, x, g); });
  for (index plane = 0; plane < planes; plane++) {
    Total all;
    for (index i = 0; i < pieces; i++) all.join(found[plane * pieces + i]);
    a.sums[plane] = all.first;
    a.sums[planes + plane] = all.second;
  }
}

// A center as T holds it; what is lost, center - value, is put back into the terms that are kept in double.
template <class T>
struct Center {
  T value;
  double lost;
  explicit Center(double center) : value(static_cast<T>(center)), lost(center - static_cast<double>(value)) {}
};

}  // namespace

template <class T>
void run_pass(Pass pass, const IsaTable& isa, const PassArrays& a) {
  const LayerKernels<T>& kernels = isa.layers.of<T>();
  const auto number = [&a](int i, const Piece& p) {
    return a.numbers[i].values[p.n * a.numbers[i].sn + p.c * a.numbers[i].sc];
  };
  switch (pass) {
    case Pass::total:
      return reduce<T, Sums>(isa, a, [&](const Piece& p, const T* x, const T*) {
        Sums sums;
        kernels.sum(x, p.count, &sums.first);
        return sums;
      });
    case Pass::moments:
      return reduce<T, Moments>(isa, a, [&](const Piece& p, const T* x, const T*) {
        Moments m{static_cast<double>(p.count)};
        kernels.moments(x, p.count, &m.first, &m.second);
        return m;
      });
    case Pass::products:
      return reduce<T, Sums>(isa, a, [&](const Piece& p, const T* x, const T* g) {
        const Center<T> center(number(0, p));
        Sums sums;
        kernels.products(g, x, center.value, p.count, &sums.first, &sums.second);
        sums.second -= center.lost * sums.first;
        return sums;
      });
    case Pass::affine:
      return each_piece<T>(isa, a, [&](const Piece& p, const T* x, const T*, T* y) {
        const Center<T> center(number(0, p));
        const double scale = number(1, p), shift = number(2, p) - center.lost * scale;
        kernels.affine(y, x, center.value, static_cast<T>(scale), static_cast<T>(shift), p.count);
      });
    case Pass::combine:
      return each_piece<T>(isa, a, [&](const Piece& p, const T* x, const T* g, T* y) {
        const Center<T> center(number(0, p));
        const double on_x = number(2, p), shift = number(3, p) - center.lost * on_x;
        kernels.combine(y, g, x, static_cast<T>(number(1, p)), static_cast<T>(on_x), center.value,
                        static_cast<T>(shift), p.count);
      });
    case Pass::relu:
      return each_piece<T>(isa, a,
                           [&](const Piece& p, const T* x, const T* g, T* y) { kernels.relu(y, g, x, p.count); });
  }
}

template void run_pass<float>(Pass, const IsaTable&, const PassArrays&);
template void run_pass<double>(Pass, const IsaTable&, const PassArrays&);

}  // namespace konv
