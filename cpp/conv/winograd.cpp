// Winograd convolution (transforms: isa/toom_cook.hpp, tiles, slices and phases: winograd_tiling.hpp).
//   x --B^T.B--> V[xi][c][tile]            U[panel][xi][c][2 or 3 vectors of outputs]    <--G.G^T-- w   (when packed)
//                       \                  /
//              M[tile][xi][vectors] = sum_c U[xi][c] * V[xi][c]      one small product for each xi = (i, j)
//                       |
//                    A^T.A + bias --> pixels, channels in lanes --> transposed to the rows of y
// V lies in slabs of some tens of tiles, each V[xi][c][tile] of its own, so that the product walks one short piece of
// memory from end to end instead of stepping over rows of the whole block (with 256 channels, three times as fast).
//
// Loop order of a block of at least about 84 tiles (whole rows of tiles where they fit):
//   for slab, channel: transform its tiles into V                      rows of x and s in L1; V in L2 or L3
//   for some panels of output channels, chunk of the block (about 84 tiles):
//     for xi, slab, panel: M[panel][.][xi] = U[panel][xi] V[slab][xi]    both walked from end to end, from L2
//     for panel: transform M, transpose, store                           M in L2
// Threads take blocks, each with its own V, where they find even shares: whoever is slowed down by other work takes
// fewer. Otherwise the block is shared: all threads transform channels, then all take panels and chunks. An output's
// sum runs over c in one order either way, so blocks, threads and batches do not change a bit of it.
//
// NaN and infinity spread over the tile they touch (and to no other image). Padding modes, strides, negative pads and
// storage types are the row reader's business: rows that cannot be read in place are staged, a strip at a time.
#include "winograd.hpp"
#include "winograd_input.hpp"

namespace konv::winograd {
namespace {

constexpr index slab_bytes = 32 << 10;      // V of one product in a slab; at least two register tiles of columns
constexpr index tasks_a_thread = 6;         // where threads share V, or U is small
constexpr index work_bytes = 320 << 10;     // of M: it stays in a small L2
constexpr index weights_in_l2 = 256 << 10;  // U so small that blocks may be, too

// ---- blocks: a part of one is a slab of V --------------------------------------------------------------------------
struct Blocking : Blocks {
  bool shared;            // one V for all threads
  index chunk;            // segments whose products are at work at a time: whole slabs
  index together;         // panels whose products are at work at a time
  index v_slab;           // values
  index v_shared, bytes;  // bytes: of V, where it is shared; of all scratch
};

// Cuts the segments into blocks, and a block into enough pieces of chunks and panels, as far as it has them.
template <class T> void cut(const Problem<T>& p, Blocking& b, index blocks) {
  constexpr index bytes = sizeof(T);
  const index each = p.tiling.tiles(), panels = p.panels.count(), k = p.rows.channels * p.tiling.slices();
  const index columns = std::max<index>(2 * p.isa.tiles.template of<T>().o_columns, slab_bytes / (k * bytes));
  const index tasks = b.shared ? tasks_a_thread * b.threads : 1;
  b.blocks = std::min(blocks, b.segments);
  const index most = b.most();
  const index pieces = most * panels, least = std::min(ceil_div(24, each), pieces / b.threads);
  b.chunk = std::clamp<index>(std::max(pieces / tasks, least), 1, std::clamp<index>(block_tiles / each, 1, most));
  b.part = std::clamp<index>((columns + each / 2) / each, 1, b.chunk);
  if (b.chunk < most) b.chunk -= b.chunk % b.part;
  // Panels share what is read of V as far as their products stay in L2.
  const index panel_products = b.chunk * each * p.products() * p.panels.width;
  const index fit = ceil_div(panels, std::max<index>(1, work_bytes / (panel_products * bytes)));
  b.together = ceil_div(panels, std::min(panels, std::max(fit, ceil_div(tasks, ceil_div(most, b.chunk)))));
  const index at_once = p.windows ? b.part * each : p.tiling.run();  // tiles are written in one vector at least
  b.pitch = b.part * each + std::max<index>(0, p.lanes - at_once);
  b.v_slab = p.v_size(b.pitch);
  const index v = checked_mul(ceil_div(most, b.part), b.v_slab);
  b.v_shared = b.shared ? checked_mul(v, bytes) : 0;
  b.values = {b.shared ? 0 : v, b.together * panel_products, 0};
  b.bytes = checked_add(b.v_shared, checked_mul(Scratch<T>::size(p, b), b.threads));
}

// Scratch stays under 8 MiB or a quarter of input and output, except where one segment alone needs more.
template <class T> Blocking choose_blocking(const Problem<T>& p, index n, Scalar scalar) {
  const index each = p.tiling.tiles(), groups = p.g.groups, oc = p.g.group_oc();
  const index budget = scratch_limit(p.g, scalar, n) - 4096;
  Blocking b{};
  b.segments = p.tiling.segments(n);
  b.threads = p.threads(b.segments);

  // Own V where threads find even shares of the tiles, if its weights, which each then reads whole, are not many times
  // as large: half of a shared V comes from another core's caches, which may be far away (up to 1.8 times the time).
  const index tiles = b.segments * each, threads = b.threads;
  const index least = p.panels.group_size() * index{sizeof(T)} <= weights_in_l2 ? 24 : 48;
  const index some = std::max<index>(threads, round_up(tiles / least, threads));
  const auto of_tiles = [&](index most) { return ceil_div(b.segments, std::max<index>(1, most / each)); };
  const index shares = b.segments * groups;
  const bool uneven = 3 * round_up(shares, threads) > 4 * shares, large_u = groups < threads && oc > 6 * tiles;
  b.shared = threads > 1 && (uneven || large_u);
  index blocks = of_tiles(b.shared ? 4 * block_tiles : block_tiles);
  if (!b.shared) blocks = std::max(blocks, std::min(ceil_div(tasks_a_thread * threads, groups), some));
  for (;;) {
    cut(p, b, blocks);
    const index most = b.most();
    if (b.bytes <= budget || (most == 1 && b.threads == 1)) return b;
    if (most > 1 && (b.shared || b.threads == 1 || most * each >= 24)) blocks += ceil_div(blocks, 8);
    else if (!b.shared) b.shared = true, blocks = of_tiles(4 * block_tiles);
    else b.threads--;  // with very many threads, fewer must do
  }
}

// ---- one call ------------------------------------------------------------------------------------------------------
template <class T> class Forward {
 public:
  Forward(const Call<T>& call)
      : call_(call), p_(call.plan), tile_(p_.isa.tiles.template of<T>()), writer_(p_.isa, call.y),
        b_(choose_blocking(p_, call.n, call.x.scalar)), input_(p_, call.x, call.n, b_),
        work_(b_.v_shared, Scratch<T>::size(p_, b_), b_.threads) {}

  void run() {
    const index tasks = b_.blocks * p_.g.groups, channels = p_.rows.channels;
    if (!b_.shared)
      return parallel_for(tasks, [&](index task, int slot) {
        const Scratch<T> own = scratch(slot);
        const Block block = block_of(task, own.v);
        input_.run(own, block.first, block.end, block.group, 0, channels, block.v, b_.v_slab);
        for (index i = 0; i < block.pieces; i++) multiply(own, block, i);
      }, b_.threads);
    const index share = std::clamp<index>(channels / (4 * b_.threads), 1, 16);
    for (index task = 0; task < tasks; task++) {
      const Block block = block_of(task, work_.template shared<T>());
      parallel_for(ceil_div(channels, share), [&](index i, int slot) {
        input_.run(scratch(slot), block.first, block.end, block.group, i * share, std::min(channels, (i + 1) * share),
                   block.v, b_.v_slab);
      }, b_.threads);
      parallel_for(block.pieces, [&](index i, int slot) { multiply(scratch(slot), block, i); }, b_.threads);
    }
  }
 private:
  // Segments [first, end) against one group's weights: a piece is a chunk of them against some panels.
  struct Block {
    index group, first, end;
    T* v;
    index chunks, pieces;
  };

  Block block_of(index task, T* v) const {
    const index block = task / p_.g.groups, first = b_.first(block), end = b_.first(block + 1);
    const index chunks = ceil_div(end - first, b_.chunk);
    return {task % p_.g.groups, first, end, v, chunks, chunks * ceil_div(p_.panels.count(), b_.together)};
  }

  Scratch<T> scratch(int slot) const { return Scratch<T>(p_, b_, work_.template slot<char>(slot)); }

  // Piece i: panels [first, last) of output channels, segments [from, to).
  void multiply(const Scratch<T>& own, const Block& block, index i) const {
    const index each = p_.tiling.tiles(), products = p_.products();
    const index first = i / block.chunks * b_.together, last = std::min(first + b_.together, p_.panels.count());
    const index from = block.first + i % block.chunks * b_.chunk, to = std::min(from + b_.chunk, block.end);
    const T* v_piece = block.v + (from - block.first) / b_.part * b_.v_slab;
    const index m_panel = (to - from) * each * products * p_.panels.width;
    for (index xi = 0; xi < products; xi++) {
      const T* v = v_piece + input_.offset(xi);
      for (index s = from; s < to; s += b_.part, v += b_.v_slab)
        for (index panel = first; panel < last; panel++) {
          const index width = p_.panels.stored(panel), per_tile = products * width;
          const T* u = call_.weight + p_.panels.offset(block.group, panel) + p_.rows.before[xi] * width;
          T* m = own.m + (panel - first) * m_panel + (s - from) * each * per_tile + xi * width;
          tile_.output_lane(static_cast<int>(width / p_.lanes), std::min(b_.part, to - s) * each,
                            {p_.rows.k(xi), u, m, per_tile, no_sums<T>, 0}, v, b_.pitch);
        }
    }
    for (index panel = first; panel < last; panel++) {
      const index width = p_.panels.stored(panel);
      const T* m = own.m + (panel - first) * m_panel;
      for (index s = from; s < to; s++, m += each * products * width)
        for (index at = 0; at < width; at += p_.lanes)
          output(own, p_.tiling.segment(s), block.group, p_.panels.first(panel) + at, m + at, width);
    }
  }

  // One segment, one vector of output channels, those of the group from `channel` on: transformed into
  // z[row][column][lanes], then to every h.dilation-th row of y.
  void output(const Scratch<T>& own, const Segment& s, index group, index channel, const T* m, index width) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const index l = p_.lanes, o = group * p_.g.group_oc() + channel, run = p_.tiling.run();
    const index channels = std::min(l, p_.g.group_oc() - channel);
    alignas(64) T bias[64] = {};
    std::copy_n(call_.bias + o, channels, bias);
    const index row = s.tile_h * h.m * h.dilation + s.phase_h, step = w.m * w.dilation;
    const index column = s.tile_w * step, columns = std::min(p_.tiling.pixels(), p_.g.ow - column);
    const index rows = std::clamp<index>(ceil_div(p_.g.oh - row, h.dilation), 0, h.m);
    for (index k = 0; k < p_.tiling.runs() && rows > 0; k++, m += run * p_.products() * width)
      p_.f.output(m, width, run, bias, own.z + k * step * l, columns, p_.tiling.step(), w.dilation, columns - k * step);
    writer_.write_lanes(own.z, l, {{s.n, o, row, column, channels}, rows, columns, h.dilation}, own.staged);
  }

  const Call<T>& call_;
  const Problem<T> p_;
  const TileTable<T>& tile_;
  const RowWriter<T> writer_;
  const Blocking b_;
  const InputTransform<T> input_;
  const Workspace work_;
};

// ---- packing -------------------------------------------------------------------------------------------------------
// Channels read at a time: rows of the weight are long, and often on the same sets of the cache.
constexpr index pack_channels = 16;

// A vector of output channels of a group, from `o` on, for every slice and channel: u[at[slice][xi] + c*width].
template <class T>
void pack_vector(const Problem<T>& p, const WeightView& view, index group, index o, index width, T* scratch, T* u) {
  const Axis &h = p.tiling.h, &w = p.tiling.w;
  const index outputs = std::min(p.lanes, p.g.group_oc() - o), row = pack_channels * p.g.taps();
  T *taps = scratch, *read = scratch + h.r * w.r * p.lanes;
  for (index first = 0; first < p.rows.channels; first += pack_channels) {
    const index last = std::min(first + pack_channels, p.rows.channels);
    for (index i = 0; i < outputs; i++)
      for (index c = first; c < last; c++)
        read_taps(p.isa, view, group, o + i, c, h.kernel, w.kernel, read + i * row + (c - first) * p.g.taps());
    for (index slice = p.tiling.slices() - 1; slice >= 0; slice--) {
      index at[max_products];
      p.rows.offsets(p.tiling, slice, width, 0, at);
      for (index c = first; c < last; c++) {
        std::fill_n(taps, h.r * w.r * p.lanes, T(0));  // lanes without a channel, taps that the slice does not have
        for (index a = 0, y; a < h.r && (y = h.tap(slice / w.slices, a)) < h.kernel; a++)
          for (index b = 0, x; b < w.r && (x = w.tap(slice % w.slices, b)) < w.kernel; b++)
            for (index i = 0; i < outputs; i++)
              taps[(a * w.r + b) * p.lanes + i] = read[i * row + (c - first) * p.g.taps() + y * w.kernel + x];
        p.f.weight(taps, at, u + c * width);
      }
    }
  }
}
}  // namespace

template <class T> index packed_size(const Plan& plan) {
  const Problem<T> p(plan);
  return checked_mul(p.g.groups, p.panels.group_size());
}

template <class T> void pack(const Plan& plan, const WeightView& w, T* dst) {
  const Problem<T> p(plan);
  const index vectors = ceil_div(p.g.group_oc(), p.lanes), tasks = p.g.groups * vectors;
  const index work = checked_mul(tasks, p.rows.all);  // vectors of results
  const int threads = static_cast<int>(std::min<index>({tasks, 1 + (work >> 14), num_threads()}));
  const index values = (p.tiling.h.r * p.tiling.w.r + pack_channels * p.g.taps()) * p.lanes;
  each_task<T>(tasks, threads, values, least_limit, [&](index task, int, T* scratch) {
    const index group = task / vectors, o = task % vectors * p.lanes, panel = o / p.panels.width;
    pack_vector(p, w, group, o, p.panels.stored(panel), scratch,
                dst + p.panels.offset(group, panel) + o % p.panels.width);
  });
}

template <class T> void run(const Call<T>& call) { Forward<T>(call).run(); }

const Algorithm algorithm = {"winograd", "", nullptr, {KONV_DRIVER(float), KONV_DRIVER(double)}};
}  // namespace konv::winograd
