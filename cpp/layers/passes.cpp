// Passes over images, a piece of a channel at a time.
//   channel (h, w)   |-- piece 0: rows 0 .. r --|-- piece 1 --|--   about 4096 cells, which stay in L1 between the
//                                                                  passes of a kernel; rows longer than that are cut
// Statistics of a piece are summed in the compute type T by vectors, pieces are put together in double (T. Chan, G.
// Golub, R. LeVeque, "Algorithms for computing the sample variance", 1983). Pieces are cut by the image's shape alone
// and joined in order, so the bits do not depend on the number of threads.
#include "../plan.hpp"
#include "layers.hpp"
#include "rows.hpp"

namespace konv {
namespace {

constexpr index piece_cells = 4096;

// What is known of some cells: their sum, and a second sum; for moments that of (x - mean)^2.
struct Part {
  double cells, sums[2] = {};
  double mean() const { return sums[0] / cells; }
};

// One pass over a piece: `cells` neighbours in memory, and the numbers of their channel.
template <class T>
Part run_piece(Pass pass, const LayerKernels<T>& kernels, index cells, const T* x, const T* g, T* y,
               const double (&number)[4]) {
  Part part{static_cast<double>(cells)};
  const auto [first, a, b, d] = number;
  // The center as T holds it; what is lost is put back into the terms that are kept in double.
  const T center = static_cast<T>(first);
  const double lost = first - static_cast<double>(center);
  switch (pass) {
    case Pass::sums: kernels.sum(x, cells, part.sums); break;
    case Pass::moments: kernels.moments(x, cells, part.sums); break;
    case Pass::products:
      kernels.products(g, x, center, cells, part.sums);
      part.sums[1] -= lost * part.sums[0];
      break;
    case Pass::affine: kernels.affine(y, x, center, static_cast<T>(a), static_cast<T>(b - lost * a), cells); break;
    case Pass::combine:
      kernels.combine(y, g, x, static_cast<T>(a), static_cast<T>(b), center, static_cast<T>(d - lost * b), cells);
      break;
    case Pass::relu: kernels.relu(y, g, x, cells); break;
  }
  return part;
}

// The sums of a channel from those of its pieces (Chan, eq. 2.1).
Part join(Pass pass, std::span<const Part> parts) {
  Part all = parts[0];
  for (const Part& p : parts.subspan(1)) all.cells += p.cells, all.sums[0] += p.sums[0], all.sums[1] += p.sums[1];
  if (pass != Pass::moments) return all;
  const double mean = all.mean();
  for (const Part& p : parts)
    if (parts.size() > 1) all.sums[1] += p.cells * (p.mean() - mean) * (p.mean() - mean);
  all.sums[0] = mean;
  return all;
}

template <class T> void run_as(Pass pass, const IsaTable& isa, const PassArrays& a) {
  const auto& [x, g] = a.images;
  const RowReader<T> x_rows(isa, x, PadMode::zeros), g_rows(isa, g, PadMode::zeros);
  const RowWriter<T> y_rows(isa, a.y);
  const index width = std::min(x.w, piece_cells), rows = std::clamp<index>(piece_cells / x.w, 1, x.h);
  const index across = ceil_div(x.w, width), pieces = ceil_div(x.h, rows) * across, planes = a.n * a.c;
  std::vector<Part> parts(static_cast<std::size_t>(a.sums && pieces > 1 ? checked_mul(planes, pieces) : 0));
  const auto keep = [&](index plane, const Part* of_plane) {
    const Part all = join(pass, {of_plane, static_cast<std::size_t>(pieces)});
    for (int i = 0; i < 2; i++) a.sums[i * planes + plane] = all.sums[i];
  };
  each_range<T>(planes * pieces, 2 * rows * width, 3 * piece_cells, least_limit, [&](index unit, index last, T* own) {
    const index piece = unit % pieces, plane = unit / pieces;
    RowBlock b{{plane / a.c, plane % a.c, piece / across * rows, piece % across * width}, 0, 0};
    for (; unit < last; unit++) {
      b.rows = std::min(rows, x.h - b.row), b.count = std::min(width, x.w - b.column);
      const T* in = rows_of(x_rows, x, b, own);
      const T* with = g.data ? rows_of(g_rows, g, b, own + piece_cells) : in;
      double number[4] = {};
      for (int i = 0; i < 4 && a.numbers[0].values; i++)
        if (const auto& [values, sn, sc] = a.numbers[i]; values) number[i] = values[b.n * sn + b.c * sc];
      const auto run = [&](T* y) { return run_piece(pass, isa.layers.of<T>(), b.rows * b.count, in, with, y, number); };
      if (!a.sums) fill_rows(y_rows, a.y, b, own + 2 * piece_cells, run);
      else if (const Part part = run(nullptr); pieces > 1) parts[unit] = part;
      else keep(unit, &part);
      if ((b.column += width) >= x.w) b.column = 0, b.row += rows;
      if (b.row >= x.h) b.row = 0, b.c++;
      if (b.c == a.c) b.c = 0, b.n++;
    }
  });
  for (index plane = 0; plane < planes && !parts.empty(); plane++) keep(plane, &parts[plane * pieces]);
}
}  // namespace

void run_pass(Pass pass, const IsaTable& isa, const PassArrays& a) {
  with_floating_type(a.images[0].scalar, [&](auto t) { run_as<decltype(t)>(pass, isa, a); });
}
}  // namespace konv
