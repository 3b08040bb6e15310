// 1x1 convolution: the image is one long row of pixels, a matrix times the weights.
//   y[o][q] = bias[o] + sum_c w[o][c] * x[c][q]
// The pixel-lane tile could read x where it lies, channel after channel, but these are as far apart as an image is
// large: each lies in a page of its own, and many meet in few sets of the caches. So the pixels of some tiles are
// packed first, in the order in which the tile reads them (0.9 to 1.5 times as fast; up to 3.9 where channels begin at
// different places in a cache line, as in images of 65 x 65).
//   x  c0  | tile 0 | tile 1 | ..      v  | c0 c1 c2 .. of tile 0 | c0 c1 c2 .. of tile 1 | ..
//      c1  | tile 0 | tile 1 | ..
//   weights                 w[panel][c][rows]
//   scratch of a thread     v[tile][c][pixel]
//                           x[c][pixel]          copied
//                           sums[o][pixel]       what the writer must convert or spread
// Few panels do not repay the packing: they read pixels in place, from the first cache line on (NumPy's large arrays
// begin 16 bytes after one: 1.0 to 1.4). What comes before it, and a last block that fills no vectors, is packed. Nor
// do tall panels (direct.hpp). What must be converted, and the pixels that a stride or padding leaves of some rows, is
// copied before it is packed.
//
// Loops: block of pixels (packed, it fits L2) -> panel of output channels (its weights stay in L1) -> tile -> c.
// Threads take blocks and, where there are few, shares of the panels; the block that a thread holds is not packed
// again. Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008.
#include <vector>
#include "direct.hpp"
#include "stage.hpp"

namespace konv::pointwise {
namespace {

constexpr index packed_bytes = 128 << 10, copied_bytes = 256 << 10, most_bytes = 512 << 10;  // of a block
constexpr index fair_pixels = 64;     // of a block: fewer of many channels would be a line or two of each page
constexpr index far_bytes = 8 << 20;  // of images and outputs, from which on packing always pays, as it fetches
constexpr index tile_bytes = 1 << 20, line = 64;  // most of a tile; of the cache

template <class T> class Driver {
 public:
  Driver(const Call<T>& call, const Geometry& g)
      : call_(call), g_(g), tiles_(direct::tiles<T>(call.plan)), panels_(direct::panels<T>(call.plan)),
        reader_(*call.plan.isa, call.x, g.mode), writer_(*call.plan.isa, call.y), width_(tile_width()),
        copies_(!reader_.in_place(0, 0, 0) || !direct::flattens(g) || g.oh > 1),
        direct_(writer_.in_place(0, 0) && (g.oh == 1 || call.y.sh == g.ow)),
        in_place_(!copies_ && panels_.count() < repaying()), threads_(direct::useful_threads(g, call.n)) {
    const index images = call.n * g.groups, cell = std::max<index>(1, panels_.k) * index{sizeof(T)};
    const index fit = copies_ ? copied_bytes / cell : std::clamp(fair_pixels, packed_bytes / cell, most_bytes / cell);
    const index most = std::max(fit / width_, index{1}) * width_;
    if (g.oh > 1) rows_ = direct::balanced(g.oh, std::max<index>(1, most / g.ow), images, threads_, 2 * width_ / g.ow);
    columns_ = head_ = g.ow;
    if (g.oh == 1 || g.ow > most)
      columns_ = head_ = width_ * direct::balanced(ceil_div(g.ow, width_), most / width_, images, threads_, 2);
    const index past = static_cast<index>(reinterpret_cast<std::uintptr_t>(call.x.data) % line);
    if (in_place_ && on_line(call.x.sc) && past) head_ = std::min(columns_, (line - past) / index{sizeof(T)});
    across_ = 1 + ceil_div(std::max<index>(0, g.ow - head_), columns_);
    size_ = round_up(rows_ * columns_, width_);
    if (!channels_apart<T>(size_)) size_ += line / index{sizeof(T)};
    blocks_ = ceil_div(g.oh, rows_) * across_;
    all_ = images * blocks_;
    // Where planes do not begin on cache lines, threads had better share panels than pixels: see pixel_lane.cpp.
    const index enough = direct::blocks_a_thread * threads_;
    by_panels_ = threads_ > 1 && all_ < enough && panels_.count() >= 16 * threads_ && !on_line(call.y.sc);
    parts_ = by_panels_ ? threads_ : std::min(panels_.count(), ceil_div(enough, all_));
  }

  void run() {
    const index packed = std::max<index>(1, panels_.k) * size_, copied = copies_ ? packed : 0;
    const index tasks = all_ * parts_, values = packed + copied + panels_.width * size_;
    std::vector<index> held(static_cast<std::size_t>(threads_), -1);  // the block that each thread has packed
    each_task<T>(tasks, threads_, values, call_.scratch_limit(), [&](index task, int slot, T* v) {
      T* x = v + packed;
      const Share b = share(task);
      if (std::exchange(held[static_cast<std::size_t>(slot)], block_of(task)) != block_of(task)) pack(b, v, x);
      const index from = panels_.count() * b.part / parts_, to = panels_.count() * (b.part + 1) / parts_;
      for (index panel = from; panel < to; panel++) add(b, panel, v, x + copied);
    });
  }
 private:
  index block_of(index task) const { return by_panels_ ? task % all_ : task / parts_; }
  Share share(index task) const {
    const index i = block_of(task), image = i / blocks_, at = i % across_, row = i % blocks_ / across_ * rows_;
    const index column = at ? head_ + (at - 1) * columns_ : 0, most = at ? columns_ : head_;
    const Block b{image / g_.groups, 1, row, std::min(rows_, g_.oh - row), column, std::min(most, g_.ow - column)};
    return {b, image % g_.groups, by_panels_ ? task / all_ : task % parts_};
  }
  bool in_place(const Share& b) const {
    return in_place_ && (b.column || head_ == columns_) && b.columns % tiles_.lanes == 0;
  }

  index tile_width() const {
    const index most = tile_bytes / index{sizeof(T)} / tiles_.lanes / std::max<index>(1, panels_.k);
    return tiles_.lanes * std::clamp<index>(most, 1, tiles_.vectors(static_cast<int>(panels_.width)));
  }

  static bool on_line(index distance) { return distance * index{sizeof(T)} % line == 0; }
  // Panels that repay packing. Where channels begin at different places in a line, half of the vectors lie in two; on
  // whole lines, tiles of long vectors read enough of each channel at once (unpacked 1.04, up to 1.13).
  index repaying() const {
    if (panels_.width > tiles_.p_rows) return panels_.count() + 1;
    if (!channels_apart<T>(call_.x.sc)) return 1;
    if (bytes_of(g_, call_.x.scalar, call_.n) > far_bytes) return 2;
    if (!on_line(call_.x.sc) || (!on_line(call_.x.sn) && call_.n > 1)) return 2;
    return tiles_.lanes * index{sizeof(T)} == line ? panels_.count() + 1 : 7;
  }

  const T* image(const Share& b) const {
    return static_cast<const T*>(call_.x.plane(b.n, b.group * g_.group_c())) + b.column;
  }

  void pack(const Share& b, T* v, T* x) const {
    if (in_place(b)) return;
    const Corner corner = corner_of(g_, b, b.group * g_.group_c(), panels_.k, size_);
    if (copies_) reader_.read_rows(x, b.columns, {corner, b.rows, b.columns, g_.stride_h, g_.stride_w});
    tiles_.pack_pixels(b.rows * b.columns, panels_.k, copies_ ? x : image(b), copies_ ? size_ : call_.x.sc, width_, v);
  }

  void add(const Share& b, index panel, const T* v, T* sums) const {
    const index rows = panels_.kept(panel), channel = b.group * g_.group_oc() + panels_.first(panel);
    const index ld = direct_ ? call_.y.sc : size_;
    const bool here = in_place(b);
    tiles_.pixel_lane_tiles(static_cast<int>(rows), b.rows * b.columns, width_, panels_.k,
                            call_.weight + panels_.offset(b.group, panel), here ? image(b) : v,
                            here ? call_.x.sc : width_, here ? width_ : width_ * panels_.k, call_.bias + channel,
                            direct_ ? writer_.in_place(b.n, channel) + b.row * g_.ow + b.column : sums, ld);
    if (!direct_) writer_.write_rows(sums, b.columns, {{b.n, channel, b.row, b.column, rows, ld}, b.rows, b.columns});
  }

  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const Panels panels_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const index width_;  // of a tile
  const bool copies_, direct_, in_place_;
  int threads_;
  bool by_panels_;
  index rows_ = 1, columns_, head_, size_;  // of a block; columns of a row's first; room for its pixels
  index across_, blocks_, all_, parts_;     // blocks in a row, in an image, in all; shares of the panels
};
}  // namespace

template <class T> void run(const Call<T>& call, const Geometry& g) { Driver<T>(call, g).run(); }
template void run(const Call<float>&, const Geometry&);
template void run(const Call<double>&, const Geometry&);
template void run(const Call<index>&, const Geometry&);
}  // namespace konv::pointwise
