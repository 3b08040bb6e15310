// Winograd convolution (transforms: isa/toom_cook.hpp, tiles and phases: winograd_tiling.hpp).
//
//   x --B^T.B--> V[xi][c][tile]            U[panel][xi][c][2 vectors of output channels] <--G.G^T-- w   (when packed)
//                       \                  /
//              M[tile][xi][2 vectors] = sum_c U[xi][c] * V[xi][c]      one small product for each xi = (i, j)
//                       |
//                    A^T.A + bias --> pixels, channels in lanes --> transposed to the rows of y
//
// V lies in slabs of some tens of tiles, each V[xi][c][tile] of its own, so that the product walks one short piece of
// memory from end to end instead of stepping over rows of the whole block (with 256 channels, three times as fast).
//
// Loop order of a block of at least about 112 tiles (whole rows of tiles where they fit):
//   for slab, channel: transform its tiles into V                      rows of x and s in L1; V in L2 or L3
//   for some panels of output channels, chunk of the block (about 56 tiles):
//     for xi, slab, panel: M[panel][.][xi] += U[panel][xi] V[slab][xi]   V[slab][xi] and part of U[panel][xi] in L1
//     for panel: transform M, transpose, store                           M (half a MiB) in L2
// Threads take blocks, each with its own V, where there are many: whoever is slowed down by other work takes fewer.
// Otherwise the block is shared: all threads transform channels, then all take panels and chunks. An output's sum runs
// over c in one order either way, so blocks, threads and batches do not change a bit of it.
//
// NaN and infinity spread over the tile they touch (and to no other image). Padding modes, strides, negative pads and
// storage types are the row reader's business: rows that cannot be read in place are staged, one strip of a row of
// tiles of one channel at a time.
#include "winograd.hpp"

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "winograd_input.hpp"

namespace konv::winograd {
namespace {

constexpr index slab_bytes = 32 << 10;      // of one product in a slab, or four columns of the register tile
constexpr index tasks_a_thread = 6;         // where threads share V, or U is small
constexpr index chunk_tiles = 56;           // at work at a time, or one segment
constexpr index product_bytes = 512 << 10;  // of M: most of L2
constexpr index weights_in_l2 = 256 << 10;  // U so small that blocks may be, too
constexpr index weight_bytes = 16 << 10;    // of U that stay in L1 while a slab passes

// ---- blocks and scratch --------------------------------------------------------------------------------------------
struct Blocking {
  bool shared;  // one V for all threads
  int threads;
  index segments;  // of the whole call
  index blocks;    // near-equal runs of segments
  index slab;      // segments whose tiles lie side by side in V
  index chunk;     // segments whose products are at work at a time: whole slabs
  index together;  // panels whose products are at work at a time
  index pitch;     // from one row of a slab to the next

  index first(index block) const { return segments * block / blocks; }
  index most() const { return ceil_div(segments, blocks); }
  index slabs() const { return ceil_div(most(), slab); }
};

// Arrays of one thread.
template <class T>
struct Scratch {
  Carver carver;
  T *v = nullptr, *m, *z, *staged;
  InputScratch<T> input;

  Scratch(const Problem<T>& p, const Blocking& b, char* base) : carver{base}, input(p, b.slab, carver) {
    const index tiles = b.chunk * p.tiling.segment_tiles();
    if (!b.shared) carver.take(v, checked_mul(b.slabs(), round_up(p.v_size(b.pitch), p.lanes)));
    carver.take(m, b.together * tiles * p.products() * p.panels.width);
    carver.take(z, p.f.mh * p.z_columns() * p.lanes);
    carver.take(staged, p.z_columns() * p.lanes);
  }
  static index size(const Problem<T>& p, const Blocking& b) { return Scratch(p, b, nullptr).carver.bytes; }
};

// Cuts the segments into blocks, and a block into at least `tasks` pieces of chunks and panels as far as it has them.
template <class T>
void cut(const Problem<T>& p, Blocking& b, index blocks, index tasks) {
  constexpr index bytes = sizeof(T);
  const index each = p.tiling.segment_tiles(), panels = p.panels.count();
  const index k = p.rows.channels * p.tiling.stride_phases();
  const index columns = std::max<index>(4 * p.isa.template tiles<T>().o_columns, slab_bytes / (k * bytes));
  b.blocks = std::min(blocks, b.segments);
  b.chunk = std::clamp<index>(b.most() * panels / tasks, 1, std::max<index>(1, chunk_tiles / each));
  b.slab = std::clamp<index>((columns + each / 2) / each, 1, std::min(b.chunk, b.most()));
  b.chunk -= b.chunk % b.slab;
  // Panels share what is read of V as far as their products stay in L2.
  const index panel_bytes = b.chunk * each * p.products() * p.panels.width * bytes;
  const index fit = ceil_div(panels, std::max<index>(1, product_bytes / panel_bytes));
  b.together = ceil_div(panels, std::min(panels, std::max(fit, ceil_div(tasks, ceil_div(b.most(), b.chunk)))));
  // Rows are written in ascending order in whole vectors, so that each overwrites what the last one left behind its
  // end. Threads that share V have no such order: their rows keep a distance.
  b.pitch = b.slab * each + (b.shared ? p.overshoot(b.slab * each) : 0);
}

template <class T>
index scratch_bytes(const Problem<T>& p, const Blocking& b) {
  const index shared =
      b.shared ? checked_mul(checked_mul(b.slabs(), round_up(p.v_size(b.pitch), p.lanes)), sizeof(T)) : 0;
  return checked_add(shared, checked_mul(Scratch<T>::size(p, b), b.threads));
}

// Scratch stays under 8 MiB or a quarter of input and output, except where one segment alone needs more.
template <class T>
Blocking choose_blocking(const Problem<T>& p, index n, index image_bytes) {
  const index each = p.tiling.segment_tiles(), budget = std::max(index{8} << 20, image_bytes / 4) - 4096;
  Blocking b{};
  b.segments = p.tiling.segments(n);
  const index work = checked_mul(checked_mul(b.segments * each, p.g.groups), checked_mul(p.rows.all, p.g.group_oc()));
  b.threads = static_cast<int>(std::clamp<index>(work >> 20, 1, num_threads()));

  // Own V where there are blocks enough to share out evenly; they may be small when the weights stay in L2.
  const index tasks = tasks_a_thread * b.threads, groups = p.g.groups, tiles = b.segments * each;
  const index least = p.panels.group_size() * index{sizeof(T)} <= weights_in_l2 ? 24 : 48;
  if (b.threads == 1 || tiles * groups >= 4 * b.threads * least || (groups > 1 && tiles * groups >= 48 * b.threads)) {
    const index enough = std::min(ceil_div(tasks, groups), tiles / least);
    for (index blocks = std::max({ceil_div(b.segments, std::max<index>(1, block_tiles / each)), enough, index{1}});;
         blocks += ceil_div(blocks, 8)) {
      cut(p, b, blocks, 1);
      if (scratch_bytes(p, b) <= budget) return b;
      if (b.most() == 1 || b.most() * each < 42) break;
    }
  }
  b.shared = true;
  const index most = std::max<index>(1, 4 * block_tiles / each);
  for (index blocks = ceil_div(b.segments, most);; blocks += ceil_div(blocks, 4)) {
    cut(p, b, blocks, tasks);
    if (b.most() > 1 && scratch_bytes(p, b) > budget) continue;
    while (b.threads > 1 && scratch_bytes(p, b) > budget) b.threads--;  // with very many threads, fewer must do
    return b;
  }
}

// ---- one call ------------------------------------------------------------------------------------------------------
template <class T>
class Forward {
 public:
  Forward(const Call<T>& call)
      : call_(call),
        p_(call.plan.g, *call.plan.isa, call.plan.tile),
        tile_(p_.isa.template tiles<T>()),
        writer_(p_.isa, call.y),
        b_(choose_blocking(p_, call.n, image_bytes(p_.g, call.x.scalar, call.n))),
        input_(p_, call.x, b_.pitch),
        v_slab_(round_up(p_.v_size(b_.pitch), p_.lanes)),
        work_(b_.shared ? b_.slabs() * v_slab_ * sizeof(T) : 0, Scratch<T>::size(p_, b_), b_.threads) {}

  void run() {
    if (b_.shared) run_shared();
    else run_own();
  }

 private:
  void run_own() {
    parallel_for(
        b_.blocks * p_.g.groups,
        [&](index task, int slot) {
          const index block = task / p_.g.groups, group = task % p_.g.groups;
          const index first = b_.first(block), end = b_.first(block + 1);
          const Scratch<T> own = scratch(slot);
          transform(own, first, end, group, 0, p_.rows.channels, own.v);
          for (index panel = 0; panel < p_.panels.count(); panel += b_.together)
            for (index s = first; s < end; s += b_.chunk)
              multiply(own, group, panel, s, std::min(s + b_.chunk, end), slab(own.v, s - first));
        },
        b_.threads);
  }

  void run_shared() {
    T* v = work_.template shared<T>();
    const index channels = p_.rows.channels, share = std::clamp<index>(channels / (4 * b_.threads), 1, 16);
    for (index task = 0; task < b_.blocks * p_.g.groups; task++) {
      const index block = task / p_.g.groups, group = task % p_.g.groups;
      const index first = b_.first(block), end = b_.first(block + 1), chunks = ceil_div(end - first, b_.chunk);
      parallel_for(
          ceil_div(channels, share),
          [&](index i, int slot) {
            transform(scratch(slot), first, end, group, i * share, std::min(channels, (i + 1) * share), v);
          },
          b_.threads);
      parallel_for(
          ceil_div(p_.panels.count(), b_.together) * chunks,
          [&](index i, int slot) {
            const index s = first + i % chunks * b_.chunk;
            multiply(scratch(slot), group, i / chunks * b_.together, s, std::min(s + b_.chunk, end),
                     slab(v, s - first));
          },
          b_.threads);
    }
  }

  Scratch<T> scratch(int slot) const { return Scratch<T>(p_, b_, work_.template slot<char>(slot)); }

  // The slab that begins `segments` after the first segment of v.
  T* slab(T* v, index segments) const { return v + segments / b_.slab * v_slab_; }

  void transform(const Scratch<T>& own, index first, index end, index group, index from, index to, T* v) const {
    for (index s = first; s < end; s += b_.slab)
      input_.run(own.input, s, std::min(b_.slab, end - s), group, from, to, slab(v, s - first));
  }

  // ---- products and output: panels [first, last) of output channels, segments [from, to) of a block ----
  struct Piece {
    index group, first, last, from, to;
    const T* v;     // of the first segment
    index m_panel;  // from the products of one panel to the next
  };

  void multiply(const Scratch<T>& own, index group, index first, index from, index to, const T* v) const {
    const Piece piece{group,
                      first,
                      std::min(first + b_.together, p_.panels.count()),
                      from,
                      to,
                      v,
                      p_.tiling.tiles_between(from, to) * p_.products() * p_.panels.width};
    const index k_step = weight_bytes / (p_.panels.width * index{sizeof(T)});
    for (index xi = 0; xi < p_.products(); xi++)
      for (index k = 0; k < p_.rows.k[xi]; k += k_step)
        add_products(piece, xi, k, std::min(k_step, p_.rows.k[xi] - k), own.m);
    for (index panel = first; panel < piece.last; panel++) {
      const index width = p_.panels.stored(panel);
      const T* m = own.m + (panel - first) * piece.m_panel;
      for (index i = from; i < to; i++) {
        const Segment segment = p_.tiling.segment(i);
        for (index at = 0; at < width; at += p_.lanes) output(own, segment, group, panel, at / p_.lanes, m + at, width);
        m += segment.tiles * p_.products() * width;
      }
    }
  }

  // Rows [k, k + count) of product xi.
  void add_products(const Piece& piece, index xi, index k, index count, T* m) const {
    alignas(64) static constexpr T zeros[64] = {};
    const T* v = piece.v + input_.offset(xi) + k * b_.pitch;
    for (index s = piece.from; s < piece.to; s += b_.slab, v += v_slab_) {
      const index tiles = p_.tiling.tiles_between(s, std::min(s + b_.slab, piece.to));
      const index before = p_.tiling.tiles_between(piece.from, s);
      for (index panel = piece.first; panel < piece.last; panel++) {
        const index width = p_.panels.stored(panel), per_tile = p_.products() * width;
        const T* u = call_.weight + p_.panels.offset(piece.group, panel) + (p_.rows.before[xi] + k) * width;
        T* sums = m + (panel - piece.first) * piece.m_panel + before * per_tile + xi * width;
        tile_.output_lane(static_cast<int>(width / p_.lanes), tiles, count, u, v, b_.pitch, sums, per_tile,
                          k ? sums : zeros, k ? per_tile : 0);
      }
    }
  }

  // One vector of output channels of one segment, a few tiles at a time.
  void output(const Scratch<T>& own, const Segment& segment, index group, index panel, index vector, const T* m,
              index width) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const index per_tile = p_.products() * width;
    const index inside = p_.panels.first(panel) + vector * p_.lanes, o = group * p_.g.group_oc() + inside;
    const int channels = static_cast<int>(std::min(p_.lanes, p_.g.group_oc() - inside));
    alignas(64) T bias[64] = {};
    std::copy_n(call_.bias + o, channels, bias);
    const index row = segment.tile_h * h.m * h.dilation + segment.phase_h;
    const index rows = std::clamp<index>(ceil_div(p_.g.oh - row, h.dilation), 0, h.m);
    for (index t = 0; t < segment.count && rows > 0; t += p_.z_count()) {
      const index count = std::min(p_.z_count(), segment.count - t), pixels = w.m * w.dilation;
      const index column = (segment.tile_w + t) * pixels, columns = std::min(count * pixels, p_.g.ow - column);
      if (w.dilation == 1) {
        p_.f.output(m + t * per_tile, width, count, bias, own.z, columns, w.m, 1, columns);
      } else {
        for (index i = 0; i < count; i++)
          p_.f.output(m + (t + i) * w.phases * per_tile, width, w.phases, bias, own.z + i * pixels * p_.lanes, columns,
                      1, w.dilation, columns - i * pixels);
      }
      write(own, segment.n, o, channels, row, rows, column, columns);
    }
  }

  // z[row][column][lanes] to every h.dilation-th row of y from `row` on.
  void write(const Scratch<T>& own, index n, index o, int channels, index row, index rows, index column,
             index columns) const {
    const index l = p_.lanes, step = p_.tiling.h.dilation;
    const OutputView& y = call_.y;
    if (T* plane = y.parts == 1 ? writer_.in_place(n, o) : nullptr) {
      const bool one_run = y.sh == columns && column == 0 && step == 1;  // the rows follow each other
      for (index i = 0; i < (one_run ? 1 : rows); i++)
        tile_.transpose_store(own.z + i * columns * l, l, one_run ? rows * columns : columns,
                              plane + (row + i * step) * y.sh + column, y.sc, channels);
      return;
    }
    for (index i = 0; i < rows; i++) {
      tile_.transpose_store(own.z + i * columns * l, l, columns, own.staged, columns, channels);
      for (int c = 0; c < channels; c++)
        writer_.write(own.staged + c * columns, n, o + c, row + i * step, column, columns);
    }
  }

  const Call<T>& call_;
  const Problem<T> p_;
  const TileTable<T>& tile_;
  const RowWriter<T> writer_;
  const Blocking b_;
  const InputTransform<T> input_;
  const index v_slab_;  // values of one slab
  const Workspace work_;
};

// ---- packing -------------------------------------------------------------------------------------------------------
// Channels read at a time: rows of the weight are long, and often on the same sets of the cache.
constexpr index pack_channels = 16;

template <class T>
struct PackScratch {
  Carver carver;
  T *read, *taps;

  PackScratch(const Problem<T>& p, char* base) : carver{base} {
    carver.take(read, pack_channels * p.g.taps() * p.lanes);
    carver.take(taps, p.tiling.h.r * p.tiling.w.r * p.lanes);
  }
};

// The taps of one stride phase and one channel, those of lane i at read[i*row], transformed.
template <class T>
void pack_taps(const Problem<T>& p, index phase, const T* read, index row, index channels, const index* at, T* taps,
               T* u) {
  const Axis &h = p.tiling.h, &w = p.tiling.w;
  const index ph = phase / w.stride, pw = phase % w.stride;
  if (h.used(ph) < h.products() || w.used(pw) < w.products()) std::fill_n(taps, h.r * w.r * p.lanes, T(0));
  for (index y = ph; y < h.kernel; y += h.stride)
    for (index x = pw; x < w.kernel; x += w.stride) {
      T* to = taps + (y / h.stride * w.r + x / w.stride) * p.lanes;
      for (index i = 0; i < channels; i++) to[i] = read[i * row + y * w.kernel + x];
    }
  p.f.weight(taps, h.used(ph), w.used(pw), at, u);
}

// Output channels [o, o + channels) of a group in the lanes, for every phase and channel: u[at[phase][xi] + c*width].
template <class T>
void pack_vector(const Problem<T>& p, const PackScratch<T>& own, const WeightView& w, index group, index o,
                 index channels, index width, T* u) {
  const Geometry& g = p.g;
  const index row = pack_channels * g.taps();
  index at[max_phases][max_products];
  for (index phase = 0; phase < p.tiling.stride_phases(); phase++) p.rows.offsets(p.tiling, phase, width, 0, at[phase]);
  std::fill_n(own.taps, p.tiling.h.r * p.tiling.w.r * p.lanes, T(0));  // lanes without a channel
  for (index first = 0; first < p.rows.channels; first += pack_channels) {
    const index last = std::min(first + pack_channels, p.rows.channels);
    for (index i = 0; i < channels; i++)
      for (index c = first; c < last; c++)
        read_taps(p.isa, w, group, o + i, c, g.kh, g.kw, own.read + i * row + (c - first) * g.taps());
    for (index phase = 0; phase < p.tiling.stride_phases(); phase++)
      for (index c = first; c < last; c++)
        pack_taps(p, phase, own.read + (c - first) * g.taps(), row, channels, at[phase], own.taps, u + c * width);
  }
}

}  // namespace

template <class T>
index packed_size(const Plan& plan) {
  const Problem<T> p(plan.g, *plan.isa, plan.tile);
  return checked_mul(p.g.groups, p.panels.group_size());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  const Problem<T> p(plan.g, *plan.isa, plan.tile);
  const index vectors = ceil_div(p.g.group_oc(), p.lanes), tasks = p.g.groups * vectors;
  const index work = checked_mul(tasks, p.rows.all);  // vectors of results
  const int threads = static_cast<int>(std::min<index>({tasks, 1 + (work >> 14), num_threads()}));
  const Workspace scratch(0, PackScratch<T>(p, nullptr).carver.bytes, threads);
  parallel_for(
      tasks,
      [&](index task, int slot) {
        const PackScratch<T> own(p, scratch.slot<char>(slot));
        const index group = task / vectors, o = task % vectors * p.lanes, panel = o / p.panels.width;
        pack_vector(p, own, w, group, o, std::min(p.lanes, p.g.group_oc() - o), p.panels.stored(panel),
                    dst + p.panels.offset(group, panel) + o % p.panels.width);
      },
      threads);
}

template <class T>
void run(const Call<T>& call) {
  Forward<T>(call).run();
}

const Algorithm algorithm = {"winograd", "", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};

}  // namespace konv::winograd
