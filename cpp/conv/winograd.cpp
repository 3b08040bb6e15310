// Winograd convolution (transforms: isa/toom_cook.hpp, tiles and phases: winograd_tiling.hpp).
//
//   x --B^T.B--> V[xi][c][tile]            U[panel][xi][c][2 vectors of output channels] <--G.G^T-- w   (when packed)
//                       \                  /
//              M[tile][xi][2 vectors] = sum_c U[xi][c] * V[xi][c]      one small product for each xi = (i, j)
//                       |
//                    A^T.A + bias --> pixels, channels in lanes --> transposed to the rows of y
//
// Loop order of a block of about 112 tiles (whole rows of tiles where they fit):
//   for channel: transform its tiles into V                            rows of x and s in L1; V in L2 or L3
//   for panel of output channels:
//     for xi: M[.][xi] += U[panel][xi] V[xi]                           U[panel][xi] in L2, V[xi] walked in groups of 14
//     transform M, transpose, store                                    M (half a MiB) in L2
// Threads take blocks, each with its own V. With few tiles (or so many channels that each thread's V would be too
// large) the block is shared: all threads transform channels, then all take panels. An output's sum runs over c in one
// go either way, so blocks, threads and batches do not change a bit of it.
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

// ---- blocks and scratch --------------------------------------------------------------------------------------------
struct Blocking {
  bool shared;  // one V for all threads
  int threads;
  index segments;  // of the whole call
  index blocks;    // near-equal runs of segments
  index chunk;     // segments whose products are at work at a time
  index pitch;     // from one row of V to the next

  index first(index block) const { return segments * block / blocks; }
  index most() const { return ceil_div(segments, blocks); }
};

// Arrays of one thread.
template <class T>
struct Scratch {
  Carver carver;
  T *v = nullptr, *m, *z, *staged;
  InputScratch<T> input;

  Scratch(const Problem<T>& p, const Blocking& b, char* base) : carver{base}, input(p, b.most(), carver) {
    const index tiles = b.chunk * p.tiling.segment_tiles();
    if (!b.shared) carver.take(v, p.v_size(b.pitch));
    carver.take(m, tiles * p.products() * 2 * p.lanes);
    carver.take(z, p.f.mh * p.z_columns() * p.lanes);
    carver.take(staged, p.z_columns() * p.lanes);
  }
  static index size(const Problem<T>& p, const Blocking& b) { return Scratch(p, b, nullptr).carver.bytes; }
};

template <class T>
void set_blocks(const Problem<T>& p, Blocking& b, index blocks) {
  const index each = p.tiling.segment_tiles();
  b.blocks = std::min(blocks, b.segments);
  b.chunk = std::min(b.most(), std::max<index>(1, block_tiles / each));
  // Rows are written in ascending order in whole vectors, so that each overwrites what the last one left behind its
  // end. Threads that share V have no such order: their rows keep a distance.
  const index tiles = b.most() * each;
  b.pitch = tiles + (b.shared ? p.overshoot(tiles) : 0);
}

template <class T>
index scratch_bytes(const Problem<T>& p, const Blocking& b) {
  const index shared = b.shared ? checked_mul(p.v_size(b.pitch), sizeof(T)) : 0;
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

  // Own V: enough tiles for every thread, and blocks that are not too small to reuse the weights. Few blocks come in
  // whole rounds of all threads.
  const index tiles = b.segments * each * p.g.groups;
  if (b.threads == 1 || tiles >= b.threads * 48) {
    for (index blocks = ceil_div(b.segments, std::max<index>(1, block_tiles / each));; blocks += ceil_div(blocks, 8)) {
      if (p.g.groups == 1 && blocks < 16) blocks = round_up(blocks, b.threads);
      set_blocks(p, b, blocks);
      if (scratch_bytes(p, b) <= budget) return b;
      if (b.most() == 1 || b.most() * each < 42) break;
    }
  }
  b.shared = true;
  const index most = std::max<index>(1, 4 * block_tiles / each);
  for (index blocks = ceil_div(b.segments, most);; blocks += ceil_div(blocks, 4)) {
    set_blocks(p, b, blocks);
    // Enough tasks for all threads: cut the tiles when there are few panels.
    b.chunk = std::clamp<index>(b.most() * p.panels.count() / (2 * b.threads), 1, b.chunk);
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
        work_(b_.shared ? round_up(p_.v_size(b_.pitch) * sizeof(T), 64) : 0, Scratch<T>::size(p_, b_), b_.threads) {}

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
          input_.run(own.input, first, end - first, group, 0, p_.rows.channels, own.v);
          for (index panel = 0; panel < p_.panels.count(); panel++)
            for (index s = first; s < end; s += b_.chunk)
              multiply(own, block, group, panel, s, std::min(s + b_.chunk, end), own.v);
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
            input_.run(scratch(slot).input, first, end - first, group, i * share, std::min(channels, (i + 1) * share),
                       v);
          },
          b_.threads);
      parallel_for(
          p_.panels.count() * chunks,
          [&](index i, int slot) {
            const index s = first + i % chunks * b_.chunk;
            multiply(scratch(slot), block, group, i / chunks, s, std::min(s + b_.chunk, end), v);
          },
          b_.threads);
    }
  }

  Scratch<T> scratch(int slot) const { return Scratch<T>(p_, b_, work_.template slot<char>(slot)); }

  // ---- products and output: one panel of output channels, segments [from, to) of a block ----
  void multiply(const Scratch<T>& own, index block, index group, index panel, index from, index to, const T* v) const {
    alignas(64) static constexpr T zeros[64] = {};
    const index before = p_.tiling.tiles_between(b_.first(block), from), tiles = p_.tiling.tiles_between(from, to);
    const index width = p_.panels.stored(panel), per_tile = p_.products() * width;
    const T* u = call_.weight + p_.panels.offset(group, panel);
    const int vectors = static_cast<int>(width / p_.lanes);
    for (index xi = 0; xi < p_.products(); xi++)
      tile_.output_lane(vectors, tiles, p_.rows.k[xi], u + p_.rows.before[xi] * width, v + input_.offset(xi) + before,
                        b_.pitch, own.m + xi * width, per_tile, zeros, 0);
    const T* m = own.m;
    for (index i = from; i < to; i++) {
      const Segment segment = p_.tiling.segment(i);
      for (int j = 0; j < vectors; j++) output(own, segment, group, panel, j, m + j * p_.lanes, width);
      m += segment.tiles * per_tile;
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

#define KONV_WINOGRAD(T)                                     \
  template index packed_size<T>(const Plan&);                \
  template void pack<T>(const Plan&, const WeightView&, T*); \
  template void run<T>(const Call<T>&);
KONV_WINOGRAD(float)
KONV_WINOGRAD(double)

}  // namespace konv::winograd
