// Normalisation, a piece of a channel at a time.
//
//   channel of one image (h, w)      pieces of at most 4096 cells, which stay in L1 between the passes of a kernel
//   |----|----|----|--|              one row of h*w cells where the memory is one piece, else h rows of w
//
// Statistics of a piece are summed in the compute type T by vectors, pieces are put together in double (T. Chan, G.
// Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979). Blocks of
// pieces are cut by the image's geometry alone and joined in order, so the bits do not depend on the number of threads.
#include "norm.hpp"

#include <algorithm>
#include <vector>

#include "../conv/rows.hpp"
#include "rows.hpp"

namespace konv {
namespace {

constexpr index piece_cells = 4096;
constexpr index block_cells = 16 * piece_cells;

struct Piece {
  index row, column, count;
};

// How the images of one call are cut. All arrays have one shape; rows are joined when all of them lie in one piece.
class Cut {
 public:
  Cut(index n, index c, index h, index w, bool joined) : channels_(c), planes_(n * c) {
    rows_ = joined ? 1 : h;
    columns_ = joined ? h * w : w;
    in_row_ = ceil_div(columns_, piece_cells);
    pieces_ = rows_ * in_row_;
    per_block_ = std::clamp<index>(block_cells / std::max<index>(std::min(columns_, piece_cells), 1), 1, pieces_);
    blocks_ = ceil_div(pieces_, per_block_);
  }
  index planes() const { return planes_; }
  index blocks() const { return blocks_; }
  index units() const { return planes_ * blocks_; }
  index work() const { return std::min(columns_ * rows_, block_cells); }

  // f(n, c, piece) for the pieces of block `unit % blocks` of channel `unit / blocks`.
  template <class F>
  void each_piece(index unit, F&& f) const {
    const index plane = unit / blocks_, first = unit % blocks_ * per_block_;
    for (index i = first; i < std::min(first + per_block_, pieces_); i++) {
      const index column = i % in_row_ * piece_cells;
      f(plane / channels_, plane % channels_, Piece{i / in_row_, column, std::min(piece_cells, columns_ - column)});
    }
  }

 private:
  index channels_, planes_, rows_, columns_, in_row_, pieces_, per_block_, blocks_;
};

template <class View>
View joined_rows(View view, bool joined) {
  if (joined) view.w *= view.h, view.h = 1;
  return view;
}

// Pieces of an image in the compute type: where they lie, or converted into `buffer`.
template <class T>
class Source {
 public:
  Source(const IsaTable& isa, const ImageView& x, bool joined)
      : view_(joined_rows(x, joined)), reader_(isa, view_, PadMode::zeros) {}
  const T* piece(index n, index c, const Piece& p, T* buffer) const {
    if (const T* row = reader_.in_place(n, c, p.row)) return row + p.column;
    reader_.read(buffer, n, c, p.row, p.column, 1, p.count);
    return buffer;
  }

 private:
  ImageView view_;
  RowReader<T> reader_;
};

template <class T>
class Target {
 public:
  Target(const IsaTable& isa, const OutputView& y, bool joined)
      : view_(joined_rows(y, joined)), writer_(isa, view_), in_place_(writer_.in_place(0, 0) != nullptr) {}
  T* place(index n, index c, const Piece& p, T* buffer) const {
    return in_place_ ? static_cast<T*>(view_.plane(n, c)) + p.row * view_.sh + p.column : buffer;
  }
  void done(index n, index c, const Piece& p, const T* buffer) const {
    if (!in_place_) writer_.write(buffer, n, c, p.row, p.column, p.count);
  }

 private:
  OutputView view_;
  RowWriter<T> writer_;
  bool in_place_;
};

// f(unit, buffers) in parallel; `buffers` are `count` pieces of scratch.
template <class T, class F>
void each_block(const Cut& cut, int count, F&& f) {
  const int slots = num_threads();
  const Workspace workspace(0, count * piece_cells * static_cast<index>(sizeof(T)), slots);
  parallel_ranges(cut.units(), cut.work(), slots, [&](index first, index last, int slot) {
    for (index unit = first; unit < last; unit++) f(unit, workspace.slot<T>(slot));
  });
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
void channel_moments(const IsaTable& isa, index n, index c, const ImageView& x, double* mean, double* m2) {
  struct Moments {
    double count = 0, mean = 0, m2 = 0;
    void join(double more, double its_mean, double its_m2) {
      const double all = count + more, delta = its_mean - mean;
      mean += delta * (more / all);
      m2 += its_m2 + delta * delta * (count * more / all);
      count = all;
    }
  };
  const bool joined = x.plane_contiguous();
  const Cut cut(n, c, x.h, x.w, joined);
  const Source<T> source(isa, x, joined);
  const LayerKernels<T>& kernels = isa.layers.of<T>();
  std::vector<Moments> blocks(static_cast<std::size_t>(cut.units()));
  each_block<T>(cut, 1, [&](index unit, T* buffer) {
    Moments all;
    cut.each_piece(unit, [&](index i, index ch, const Piece& p) {
      double its_mean, its_m2;
      kernels.moments(source.piece(i, ch, p, buffer), p.count, &its_mean, &its_m2);
      all.join(static_cast<double>(p.count), its_mean, its_m2);
    });
    blocks[unit] = all;
  });
  for (index plane = 0; plane < cut.planes(); plane++) {
    Moments all = blocks[plane * cut.blocks()];
    for (index b = 1; b < cut.blocks(); b++) {
      const Moments& next = blocks[plane * cut.blocks() + b];
      all.join(next.count, next.mean, next.m2);
    }
    mean[plane] = all.mean;
    m2[plane] = all.m2;
  }
}

template <class T>
void channel_products(const IsaTable& isa, index n, index c, const ImageView& g, const ImageView& x,
                      const PerChannel& center, double* sums, double* products) {
  struct Sums {
    double sum = 0, product = 0;
  };
  const bool joined = g.plane_contiguous() && x.plane_contiguous();
  const Cut cut(n, c, x.h, x.w, joined);
  const Source<T> g_source(isa, g, joined), x_source(isa, x, joined);
  const LayerKernels<T>& kernels = isa.layers.of<T>();
  std::vector<Sums> blocks(static_cast<std::size_t>(cut.units()));
  each_block<T>(cut, 2, [&](index unit, T* buffer) {
    Sums all;
    cut.each_piece(unit, [&](index i, index ch, const Piece& p) {
      const Center<T> around(center.at(i, ch));
      double sum, product;
      kernels.products(g_source.piece(i, ch, p, buffer), x_source.piece(i, ch, p, buffer + piece_cells), around.value,
                       p.count, &sum, &product);
      all.sum += sum;
      all.product += product - around.lost * sum;
    });
    blocks[unit] = all;
  });
  for (index plane = 0; plane < cut.planes(); plane++) {
    Sums all;
    for (index b = 0; b < cut.blocks(); b++) {
      all.sum += blocks[plane * cut.blocks() + b].sum;
      all.product += blocks[plane * cut.blocks() + b].product;
    }
    sums[plane] = all.sum;
    products[plane] = all.product;
  }
}

template <class T>
void channel_affine(const IsaTable& isa, index n, index c, const ImageView& x, const PerChannel& center,
                    const PerChannel& scale, const PerChannel& shift, const OutputView& y) {
  const bool joined = x.plane_contiguous() && y.plane_contiguous();
  const Cut cut(n, c, x.h, x.w, joined);
  const Source<T> source(isa, x, joined);
  const Target<T> target(isa, y, joined);
  const LayerKernels<T>& kernels = isa.layers.of<T>();
  each_block<T>(cut, 2, [&](index unit, T* buffer) {
    cut.each_piece(unit, [&](index i, index ch, const Piece& p) {
      const Center<T> around(center.at(i, ch));
      const double factor = scale.at(i, ch), offset = shift.at(i, ch) - around.lost * factor;
      T* place = target.place(i, ch, p, buffer);
      kernels.affine(place, source.piece(i, ch, p, buffer + piece_cells), around.value, static_cast<T>(factor),
                     static_cast<T>(offset), p.count);
      target.done(i, ch, p, buffer);
    });
  });
}

template <class T>
void channel_combine(const IsaTable& isa, index n, index c, const ImageView& g, const ImageView& x, const PerChannel& a,
                     const PerChannel& b, const PerChannel& center, const PerChannel& shift, const OutputView& y) {
  const bool joined = g.plane_contiguous() && x.plane_contiguous() && y.plane_contiguous();
  const Cut cut(n, c, x.h, x.w, joined);
  const Source<T> g_source(isa, g, joined), x_source(isa, x, joined);
  const Target<T> target(isa, y, joined);
  const LayerKernels<T>& kernels = isa.layers.of<T>();
  each_block<T>(cut, 3, [&](index unit, T* buffer) {
    cut.each_piece(unit, [&](index i, index ch, const Piece& p) {
      const Center<T> around(center.at(i, ch));
      const double slope = b.at(i, ch), offset = shift.at(i, ch) - around.lost * slope;
      T* place = target.place(i, ch, p, buffer);
      kernels.combine(place, g_source.piece(i, ch, p, buffer + piece_cells),
                      x_source.piece(i, ch, p, buffer + 2 * piece_cells), static_cast<T>(a.at(i, ch)),
                      static_cast<T>(slope), around.value, static_cast<T>(offset), p.count);
      target.done(i, ch, p, buffer);
    });
  });
}

#define KONV_NORM(T)                                                                                           \
  template void channel_moments<T>(const IsaTable&, index, index, const ImageView&, double*, double*);         \
  template void channel_products<T>(const IsaTable&, index, index, const ImageView&, const ImageView&,         \
                                    const PerChannel&, double*, double*);                                      \
  template void channel_affine<T>(const IsaTable&, index, index, const ImageView&, const PerChannel&,          \
                                  const PerChannel&, const PerChannel&, const OutputView&);                    \
  template void channel_combine<T>(const IsaTable&, index, index, const ImageView&, const ImageView&,          \
                                   const PerChannel&, const PerChannel&, const PerChannel&, const PerChannel&, \
                                   const OutputView&)
KONV_NORM(float);
KONV_NORM(double);

}  // namespace konv
