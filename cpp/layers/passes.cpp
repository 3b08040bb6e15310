// Passes over images, a piece of a channel at a time.
//
//   channel of one image (h, w)      pieces of at most 4096 cells, which stay in L1 between the passes of a kernel
//   |----|----|----|--|              one row of h*w cells where the memory is one piece, else h rows of w
//
// Statistics of a piece are summed in the compute type T by vectors, pieces are put together in double (T. Chan, G.
// Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979). Blocks of
// pieces are cut by the image's geometry alone and joined in order, so the bits do not depend on the number of threads.
#include "passes.hpp"

#include <vector>

#include "rows.hpp"

namespace konv {
namespace {

constexpr index piece_cells = 4096;

struct Piece {
  index n, c, row, column, count;
};

// The images of one pass, cut alike: rows are joined where those of every image lie one behind the other.
template <class T>
class Images {
 public:
  // A block has about block_cells cells.
  Images(const IsaTable& isa, const PassArrays& a, index block_cells)
      : a_(a),
        joined_(contiguous(a.x) && contiguous(a.g) && contiguous(a.y)),
        x_(isa, joined_rows(a.x, joined_)),
        g_(isa, joined_rows(a.g, joined_)),
        y_(isa, joined_rows(a.y, joined_)),
        columns_(joined_ ? a.x.h * a.x.w : a.x.w),
        in_row_(ceil_div(columns_, piece_cells)),
        pieces_(joined_ ? in_row_ : a.x.h * in_row_),
        per_block_(std::max<index>(1, block_cells / std::clamp<index>(columns_, 1, piece_cells))) {}

  index blocks() const { return ceil_div(pieces_, per_block_); }  // of a channel
  index units() const { return a_.n * a_.c * blocks(); }

  // f(unit, piece, x, g, y) for every piece, those of a unit in order; a unit is a block of a channel.
  template <class F>
  void each(F&& f) const {
    const auto cut = [](Cutter& cutter) { return cutter.take<T>(3 * piece_cells); };
    const index work = std::min(pieces_, per_block_) * std::min(columns_, piece_cells);
    each_range(units(), work, cut, [&](T* buffer, index first, index last) {
      for (index unit = first; unit < last; unit++) {
        const index plane = unit / blocks(), begin = unit % blocks() * per_block_;
        for (index i = begin; i < std::min(begin + per_block_, pieces_); i++) {
          const index column = i % in_row_ * piece_cells;
          const Piece p{plane / a_.c, plane % a_.c, i / in_row_, column, std::min(piece_cells, columns_ - column)};
          const T* x = x_.row(p.n, p.c, p.row, column, p.count, buffer);
          const T* g = a_.g.data ? g_.row(p.n, p.c, p.row, column, p.count, buffer + piece_cells) : nullptr;
          T* own = buffer + 2 * piece_cells;
          f(unit, p, x, g, a_.y.data ? y_.place(p.n, p.c, p.row, column, own) : nullptr);
          if (a_.y.data) y_.done(p.n, p.c, p.row, column, p.count, own);
        }
      }
    });
  }

 private:
  template <class View>
  static bool contiguous(const View& view) {
    return !view.data || view.plane_contiguous();
  }

  const PassArrays& a_;
  bool joined_;
  Source<T> x_, g_;
  Target<T> y_;
  index columns_, in_row_, pieces_, per_block_;
};

// a.sums of every channel from total(piece, x, g) of its pieces; Total is Moments or Products.
template <class T, class Total, class F>
void reduce(const IsaTable& isa, const PassArrays& a, F&& total) {
  const Images<T> images(isa, a, 16 * piece_cells);
  std::vector<Total> blocks(static_cast<std::size_t>(images.units()));
  images.each([&](index unit, const Piece& p, const T* x, const T* g, T*) { blocks[unit].join(total(p, x, g)); });
  for (index plane = 0; plane < a.n * a.c; plane++) {
    Total all;
    for (index b = 0; b < images.blocks(); b++) all.join(blocks[plane * images.blocks() + b]);
    a.sums[plane] = all.first;
    a.sums[a.n * a.c + plane] = all.second;
  }
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

struct Products {
  double first = 0, second = 0;
  void join(const Products& more) { first += more.first, second += more.second; }
};

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
  const auto number = [&a](int i, const Piece& p) { return a.numbers[i].at(p.n, p.c); };
  switch (pass) {
    case Pass::moments:
      return reduce<T, Moments>(isa, a, [&](const Piece& p, const T* x, const T*) {
        Moments m{static_cast<double>(p.count)};
        kernels.moments(x, p.count, &m.first, &m.second);
        return m;
      });
    case Pass::products:
      return reduce<T, Products>(isa, a, [&](const Piece& p, const T* x, const T* g) {
        const Center<T> center(number(0, p));
        Products sums;
        kernels.products(g, x, center.value, p.count, &sums.first, &sums.second);
        sums.second -= center.lost * sums.first;
        return sums;
      });
    case Pass::affine:
      return Images<T>(isa, a, 1).each([&](index, const Piece& p, const T* x, const T*, T* y) {
        const Center<T> center(number(0, p));
        const double scale = number(1, p), shift = number(2, p) - center.lost * scale;
        kernels.affine(y, x, center.value, static_cast<T>(scale), static_cast<T>(shift), p.count);
      });
    case Pass::combine:
      return Images<T>(isa, a, 1).each([&](index, const Piece& p, const T* x, const T* g, T* y) {
        const Center<T> center(number(0, p));
        const double on_x = number(2, p), shift = number(3, p) - center.lost * on_x;
        kernels.combine(y, g, x, static_cast<T>(number(1, p)), static_cast<T>(on_x), center.value,
                        static_cast<T>(shift), p.count);
      });
    case Pass::relu:
      return Images<T>(isa, a, 1).each(
          [&](index, const Piece& p, const T* x, const T*, T* y) { kernels.relu(y, x, p.count); });
    case Pass::relu_gradient:
      return Images<T>(isa, a, 1).each(
          [&](index, const Piece& p, const T* x, const T* g, T* y) { kernels.relu_gradient(y, g, x, p.count); });
  }
}

template void run_pass<float>(Pass, const IsaTable&, const PassArrays&);
template void run_pass<double>(Pass, const IsaTable&, const PassArrays&);

}  // namespace konv
