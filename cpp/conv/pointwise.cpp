// 1x1 convolution: the image is one long row of pixels, a matrix times the weights.
//
//   y[o][q] = bias[o] + sum_c w[o][c] * x[c][q]
//
// The pixel-lane tile could read x where it lies, channel after channel, but these are as far apart as an image is
// large: each lies in a page of its own, and many meet in few sets of the caches. So the pixels of some tiles are
// packed first, in the order in which the tile reads them (0.9 to 1.5 times as fast; up to 3.9 where channels begin at
// different places in a cache line, as in images of 65 x 65).
//
//   x  c0  | tile 0 | tile 1 | ..      v  | c0 c1 c2 .. of tile 0 | c0 c1 c2 .. of tile 1 | ..
//      c1  | tile 0 | tile 1 | ..
//
//   weights                 w[panel][c][rows]
//   scratch of a thread     v[tile][c][pixel]
//                           x[c][pixel]          what must be converted
//                           sums[o][pixel]       what the writer must convert or spread
//
// Few panels do not repay the packing: they read pixels in place, from the first cache line on (NumPy's large arrays
// begin 16 bytes after one: 1.0 to 1.4). What comes before it, and a last block that fills no vectors, is packed.
//
// Loops: block of pixels (packed, it fits L2) -> panel of output channels (its weights stay in L1) -> tile -> c.
// Threads take blocks and, where there are few, shares of the panels; the block that a thread holds is not packed
// again. Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008.
#include <vector>
#include "../workspace.hpp"
#include "direct.hpp"
#include "stage.hpp"

namespace konv::pointwise {
namespace {

constexpr index packed_bytes = 128 << 10, tile_bytes = 1 << 20, line = 64;  // of a block, most of a tile, of the cache

template <class T> class Driver {
 public:
  Driver(const Call<T>& call, const Geometry& g)
      : call_(call), g_(g), tiles_(call.plan.isa->tiles.template of<T>()), panels_(direct::panels<T>(call.plan)),
        reader_(*call.plan.isa, call.x, g.mode), writer_(*call.plan.isa, call.y), width_(tile_width()),
        converts_(!reader_.in_place(0, 0, 0)), direct_(writer_.in_place(0, 0)),
        in_place_(!converts_ && panels_.count() < repaying()), threads_(direct::useful_threads(g, call.n)) {
    const index images = call.n * g.groups, most = packed_bytes / index{sizeof(T)} / std::max<index>(1, panels_.k);
    columns_ = direct::balanced(g.ow, std::max(most / width_, index{1}) * width_, images, threads_, 2 * width_);
    columns_ = head_ = round_up(columns_, width_);
    const index past = static_cast<index>(reinterpret_cast<std::uintptr_t>(call.x.data) % line);
    if (in_place_ && on_line(call.x.sc) && past) head_ = (line - past) / index{sizeof(T)};
    across_ = 1 + ceil_div(std::max<index>(0, g.ow - head_), columns_);
    const index blocks = images * across_;
    if (threads_ > 1) parts_ = ceil_div(direct::blocks_a_thread * threads_, blocks);
    parts_ = std::min(parts_, panels_.count());
    threads_ = static_cast<int>(std::min<index>(threads_, blocks * parts_));
  }

  void run() {
    const index packed = std::max<index>(1, panels_.k) * columns_, copied = converts_ ? packed : 0;
    const index slot_bytes = round_up((packed + copied + panels_.width * columns_) * index{sizeof(T)}, 64);
    threads_ = direct::threads_within(scratch_limit(g_, call_.x.scalar, call_.n), slot_bytes, threads_);
    const Workspace scratch(0, slot_bytes, threads_);
    std::vector<index> held(static_cast<std::size_t>(threads_), -1);  // the block that each thread has packed
    parallel_for(call_.n * g_.groups * across_ * parts_, [&](index task, int slot) {
      const index i = task / parts_, image = i / across_, at = i % across_;
      T *v = scratch.template slot<T>(slot), *x = v + packed;
      const Block b{image / g_.groups, image % g_.groups, at ? head_ + (at - 1) * columns_ : 0};
      if (std::exchange(held[static_cast<std::size_t>(slot)], i) != i) pack(b, v, x);
      for (index panel = panels_.count() * (task % parts_) / parts_;
           panel < panels_.count() * (task % parts_ + 1) / parts_; panel++)
        add(b, panel, v, x + copied);
    }, threads_);
  }
 private:
  struct Block { index n, group, column; };
  index columns(const Block& b) const { return std::min(b.column ? columns_ : head_, g_.ow - b.column); }
  bool in_place(const Block& b) const {
    return in_place_ && (b.column || head_ == columns_) && columns(b) % tiles_.lanes == 0;
  }

  index tile_width() const {
    const index most = tile_bytes / index{sizeof(T)} / tiles_.lanes / std::max<index>(1, panels_.k);
    return tiles_.lanes * std::clamp<index>(most, 1, tiles_.vectors(static_cast<int>(panels_.width)));
  }

  static bool on_line(index distance) { return distance * index{sizeof(T)} % line == 0; }
  // Panels that repay packing. Where channels begin at different places in a line, half of the vectors lie in two.
  index repaying() const {
    if (!channels_apart<T>(call_.x.sc)) return 1;
    return on_line(call_.x.sc) && (on_line(call_.x.sn) || call_.n == 1) ? 7 : 2;
  }

  const T* image(const Block& b) const {
    return static_cast<const T*>(call_.x.plane(b.n, b.group * g_.group_c())) + b.column;
  }

  void pack(const Block& b, T* v, T* copy) const {
    const index count = columns(b);
    if (in_place(b)) return;
    if (converts_)
      reader_.read_rows(copy, columns_, {{b.n, b.group * g_.group_c(), 0, b.column, panels_.k, columns_}, 1, count});
    tiles_.pack_pixels(count, panels_.k, converts_ ? copy : image(b), converts_ ? columns_ : call_.x.sc, width_, v);
  }

  void add(const Block& b, index panel, const T* v, T* sums) const {
    const index rows = panels_.kept(panel), channel = b.group * g_.group_oc() + panels_.first(panel);
    const index count = columns(b), ld = direct_ ? call_.y.sc : columns_;
    const bool here = in_place(b);
    tiles_.pixel_lane_tiles(static_cast<int>(rows), count, width_, panels_.k,
                            call_.weight + panels_.offset(b.group, panel), here ? image(b) : v,
                            here ? call_.x.sc : width_, here ? width_ : width_ * panels_.k, call_.bias + channel,
                            direct_ ? writer_.in_place(b.n, channel) + b.column : sums, ld);
    if (!direct_) writer_.write_rows(sums, ld, {{b.n, channel, 0, b.column, rows, ld}, 1, count});
  }

  const Call<T>& call_;
  const Geometry& g_;
  const TileTable<T>& tiles_;
  const Panels panels_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const index width_;  // of a tile
  const bool converts_, direct_, in_place_;
  int threads_;
  index columns_, head_, across_, parts_ = 1;  // of a block, and of the first; blocks in a row; shares of the panels
};

}  // namespace

template <class T> void run(const Call<T>& call, const Geometry& g) { Driver<T>(call, g).run(); }
template void run(const Call<float>&, const Geometry&);
template void run(const Call<double>&, const Geometry&);
template void run(const Call<index>&, const Geometry&);

}  // namespace konv::pointwise
