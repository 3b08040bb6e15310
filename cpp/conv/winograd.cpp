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
// Threads take blocks, each with its own V. With few tiles (or so many channels that each thread's V would be too large)
// the block is shared: all threads transform channels, then all take panels. An output's sum runs over c in one go
// either way, so blocks, threads and batches do not change a bit of it.
//
// NaN and infinity spread over the tile they touch (and to no other image). Padding modes, strides, negative pads and
// storage types are the row reader's business: rows that cannot be read in place are staged, one strip of a row of tiles
// of one channel at a time.
#include "winograd.hpp"

#include <cstdlib>
#include <cstring>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "pack.hpp"
#include "rows.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {
namespace {

constexpr index few_tiles = 5;  // up to so many in a row, lanes are filled with tiles of several rows

template <class T>
const WinogradTransform<T>& transform_of(const Plan& plan) {
  const Geometry& g = plan.g;
  const index rh = Axis::taps(g.kh, g.stride_h), rw = Axis::taps(g.kw, g.stride_w);
  const auto* f = plan.isa->template winograd<T>().find(rh == 1 ? 1 : plan.tile, rw == 1 ? 1 : plan.tile, rh, rw);
  if (!f) throw std::invalid_argument("konv: no Winograd transform " + plan.name);
  return *f;
}

// Everything a call derives from its plan; T is the compute type.
template <class T>
struct Problem {
  const Geometry& g;
  const IsaTable& isa;
  const WinogradTransform<T>& f;
  const WinogradTable<T>& table;
  const TileTable<T>& tile;
  Tiling tiling;
  Rows rows;
  index lanes;
  Panels panels;  // of one group's output channels
  bool windows;   // lanes are filled with tiles of several rows

  explicit Problem(const Plan& plan)
      : g(plan.g),
        isa(*plan.isa),
        f(transform_of<T>(plan)),
        table(isa.winograd<T>()),
        tile(isa.tiles<T>()),
        tiling(Tiling::of(g, f.mh, f.mw)),
        rows(tiling, g.group_c()),
        lanes(table.lanes),
        panels{g.group_oc(), rows.all, 2 * lanes, lanes},
        windows(tiling.w.dilation == 1 && tiling.w.tiles <= few_tiles) {}

  index products() const { return tiling.products(); }
  index strip() const { return tiling.columns(tiling.segment_count()); }
  // Room in a row of s for whole vectors and for the columns of the tiles that fill the last vector.
  index s_pitch() const { return round_up(strip() + lanes + (windows ? 8 : lanes * tiling.w.m), lanes); }
  // Tiles (of each column phase) that are brought from lanes to rows at a time: long rows are stored faster (5 % of a
  // 224 x 224 layer) than pieces of them, as long as z stays in L2.
  index z_count() const {
    const index bytes = f.mh * f.mw * tiling.w.dilation * lanes * static_cast<index>(sizeof(T));
    return std::clamp<index>((index{96} << 10) / bytes, 1, tiling.segment_count());
  }
  index z_columns() const { return z_count() * tiling.w.m * tiling.w.dilation; }
};

// ---- blocks and scratch --------------------------------------------------------------------------------------------
struct Blocking {
  bool shared;     // one V for all threads
  int threads;
  index segments;  // of the whole call
  index blocks;    // near-equal runs of segments
  index chunk;     // segments whose products are at work at a time
  index pitch;     // from one row of V to the next

  index first(index block) const { return segments * block / blocks; }
  index most() const { return ceil_div(segments, blocks); }
};

// Arrays of one thread, one behind the other on whole cache lines; `base` may be null to learn the size.
template <class T>
struct Scratch {
  T *v = nullptr, *m, *s, *z, *strip, *zeros, *staged;
  Segment* segments;
  index* window;
  index bytes = 0;

  Scratch(const Problem<T>& p, const Blocking& b, char* base) {
    const index l = p.lanes;
    const auto take = [&]<class E>(E*& array, index count) {
      array = reinterpret_cast<E*>(base + bytes);
      bytes = checked_add(bytes, round_up(checked_mul(count, sizeof(E)), 64));
    };
    if (!b.shared) take(v, v_size(p, b));
    take(m, b.chunk * p.tiling.segment_tiles() * p.products() * 2 * l);
    take(s, b.most() * p.f.ah() * p.s_pitch());
    take(z, p.f.mh * p.z_columns() * l);
    take(strip, p.f.ah() * round_up(p.strip(), l));
    take(zeros, p.strip() + l);
    take(staged, p.z_columns() * l);
    take(segments, b.most());
    take(window, round_up(b.most() * p.tiling.segment_tiles(), l));
  }
  static index v_size(const Problem<T>& p, const Blocking& b) {
    return checked_add(checked_mul(p.rows.all, b.pitch), p.products() * p.lanes);
  }
};

template <class T>
void set_blocks(const Problem<T>& p, Blocking& b, index blocks) {
  const index each = p.tiling.segment_tiles();
  b.blocks = std::min(blocks, b.segments);
  b.chunk = std::min(b.most(), std::max<index>(1, block_tiles / each));
  // Rows are written in ascending order in whole vectors, so that each overwrites what the last one left behind its end.
  // Threads that share V have no such order: their rows keep a distance of a vector.
  b.pitch = b.most() * each + (b.shared ? p.lanes : 0);
}

template <class T>
index scratch_bytes(const Problem<T>& p, const Blocking& b) {
  const index shared = b.shared ? checked_mul(Scratch<T>::v_size(p, b), sizeof(T)) : 0;
  return checked_add(shared, checked_mul(Scratch<T>(p, b, nullptr).bytes, b.threads));
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
    if (b.most() == 1 || scratch_bytes(p, b) <= budget) return b;
  }
}

// ---- one call ------------------------------------------------------------------------------------------------------
template <class T>
class Forward {
 public:
  Forward(const Call<T>& call)
      : p_(call.plan),
        call_(call),
        reader_(p_.isa, call.x, p_.g.mode),
        writer_(p_.isa, call.y),
        b_(choose_blocking(p_, call.n, image_bytes(call))),
        work_(b_.shared ? round_up(Scratch<T>::v_size(p_, b_) * sizeof(T), 64) : 0, Scratch<T>(p_, b_, nullptr).bytes,
              b_.threads),
        in_place_(reader_.in_place(0, 0, 0) && p_.tiling.w.stride == 1 && p_.g.mode == PadMode::zeros) {
    for (index phase = 0; phase < p_.tiling.stride_phases(); phase++)
      p_.rows.offsets(p_.tiling, phase, b_.pitch, p_.lanes, v_at_[phase]);
  }

  void run() {
    if (b_.shared) run_shared();
    else run_own();
  }

 private:
  static index image_bytes(const Call<T>& c) {
    const Geometry& g = c.plan.g;
    const index values = checked_add(checked_mul(g.c, g.h * g.w), checked_mul(g.oc, g.oh * g.ow));
    return checked_mul(checked_mul(c.n, values), scalar_bytes(c.x.scalar));
  }

  void run_own() {
    parallel_for(
        b_.blocks * p_.g.groups,
        [&](index task, int slot) {
          const index block = task / p_.g.groups, group = task % p_.g.groups;
          const Scratch<T> own = scratch(slot);
          transform(own, block, group, 0, p_.rows.channels, own.v);
          for (index panel = 0; panel < p_.panels.count(); panel++)
            for (index s = b_.first(block), end = b_.first(block + 1); s < end; s += b_.chunk)
              multiply(own, block, group, panel, s, std::min(s + b_.chunk, end), own.v);
        },
        b_.threads);
  }

  void run_shared() {
    T* v = work_.template shared<T>();
    const index channels = p_.rows.channels, share = std::clamp<index>(channels / (4 * b_.threads), 1, 16);
    for (index task = 0; task < b_.blocks * p_.g.groups; task++) {
      const index block = task / p_.g.groups, group = task % p_.g.groups;
      parallel_for(
          ceil_div(channels, share),
          [&](index i, int slot) {
            transform(scratch(slot), block, group, i * share, std::min(channels, (i + 1) * share), v);
          },
          b_.threads);
      const index first = b_.first(block), end = b_.first(block + 1), chunks = ceil_div(end - first, b_.chunk);
      parallel_for(
          p_.panels.count() * chunks,
          [&](index i, int slot) {
            const index s = first + i % chunks * b_.chunk;
            multiply(scratch(slot), block, group, i / chunks, s, std::min(s + b_.chunk, end), v);
          },
          b_.threads);
    }
  }

  Scratch<T> scratch(int slot) const {
    Scratch<T> s(p_, b_, work_.template slot<char>(slot));
    std::fill_n(s.zeros, p_.strip() + p_.lanes, T(0));
    return s;
  }

  // ---- input: channels [from, to) of a group into V ----
  // First all columns of a channel, then all rows: rows that were just written in vectors of other places would make
  // the loads wait for the stores.
  void transform(const Scratch<T>& own, index block, index group, index from, index to, T* v) const {
    const index first = b_.first(block), count = b_.first(block + 1) - first;
    const index pitch = p_.s_pitch(), step = p_.f.ah() * pitch;
    for (index i = 0; i < count; i++) own.segments[i] = p_.tiling.segment(first + i);
    if (p_.windows) set_windows(own, count);
    for (index phase = 0; phase < p_.tiling.stride_phases(); phase++) {
      const int rows = p_.tiling.h.used(phase / p_.tiling.w.stride), columns = p_.tiling.w.used(phase % p_.tiling.w.stride);
      const index* at = v_at_[phase];
      for (index c = from; c < to; c++) {
        T* to_v = v + c * b_.pitch;
        for (index i = 0; i < count; i++)
          columns_of(own, own.segments[i], phase, group * p_.rows.channels + c, own.s + i * step);
        if (p_.windows) {
          p_.f.input_windows(own.s, pitch, own.window, count * p_.tiling.w.tiles, rows, columns, at, to_v);
        } else {
          for (index i = 0; i < count; to_v += own.segments[i].tiles, i++)
            rows_of(own.s + i * step, own.segments[i], rows, columns, at, to_v);
        }
      }
    }
  }

  void rows_of(const T* s, const Segment& segment, int rows, int columns, const index* at, T* v) const {
    const Axis& w = p_.tiling.w;
    if (w.dilation == 1) return p_.f.input_rows(s, p_.s_pitch(), segment.tiles, rows, columns, at, v);
    for (index t = 0; t < segment.count; t++)
      p_.f.input_phases(s + t * w.m * w.dilation, p_.s_pitch(), w.dilation, w.phases, rows, columns, at,
                         v + t * w.phases);
  }

  // Where each tile of a block begins in s; the lanes that fill the last vector repeat the first tile.
  void set_windows(const Scratch<T>& own, index segments) const {
    const index each = p_.tiling.w.tiles, tiles = segments * each;
    for (index t = 0; t < round_up(tiles, p_.lanes); t++)
      own.window[t] = t < tiles ? t / each * p_.f.ah() * p_.s_pitch() + t % each * p_.tiling.w.m : 0;
  }

  // The rows of one segment and channel, in place or staged, transformed column by column into s.
  void columns_of(const Scratch<T>& own, const Segment& segment, index phase, index c, T* s) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const index count = p_.tiling.columns(segment.count);
    const index row = segment.tile_h * h.m, row_phase = segment.phase_h + phase / w.stride;
    const index column = w.cell(segment.tile_w * w.m, phase % w.stride);
    const T* rows[max_products];
    index first = 0, last = count;
    if (in_place_) {
      first = std::clamp<index>(-column, 0, count);
      last = std::clamp<index>(p_.g.w - column, first, count);
      const T* plane = static_cast<const T*>(call_.x.plane(segment.n, c)) + column;
      for (index i = 0; i < p_.f.ah(); i++) {
        const index y = h.cell(row + i, row_phase);
        rows[i] = y >= 0 && y < p_.g.h && first < last ? plane + y * call_.x.sh : own.zeros;
      }
    } else {
      for (index i = 0; i < p_.f.ah(); i++) {
        T* to = own.strip + i * round_up(p_.strip(), p_.lanes);
        reader_.read(to, segment.n, c, h.cell(row + i, row_phase), column, w.stride, count);
        rows[i] = to;
      }
    }
    p_.f.input_columns(rows, first, last, count, s, p_.s_pitch());
  }

  // ---- products and output: one panel of output channels, segments [from, to) of a block ----
  void multiply(const Scratch<T>& own, index block, index group, index panel, index from, index to, const T* v) const {
    alignas(64) static constexpr T zeros[64] = {};
    const index before = tiles_between(b_.first(block), from), tiles = tiles_between(from, to);
    const index width = p_.panels.stored(panel), per_tile = p_.products() * width;
    const T* u = call_.weight + p_.panels.offset(group, panel);
    const int vectors = static_cast<int>(width / p_.lanes);
    for (index xi = 0; xi < p_.products(); xi++)
      p_.tile.output_lane(vectors, tiles, p_.rows.k[xi], u + p_.rows.before[xi] * width,
                          v + v_at_[0][xi] + before, b_.pitch, own.m + xi * width, per_tile, zeros, 0);
    const T* m = own.m;
    for (index i = from; i < to; i++) {
      const Segment segment = p_.tiling.segment(i);
      for (int j = 0; j < vectors; j++) output(own, segment, group, panel, j, m + j * p_.lanes, width);
      m += segment.tiles * per_tile;
    }
  }

  index tiles_between(index from, index to) const {
    if (p_.tiling.parts == 1) return (to - from) * p_.tiling.segment_tiles();
    index tiles = 0;
    for (index i = from; i < to; i++) tiles += p_.tiling.segment(i).tiles;
    return tiles;
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
          p_.f.output(m + (t + i) * w.phases * per_tile, width, w.phases, bias, own.z + i * pixels * p_.lanes, columns, 1,
                      w.dilation, columns - i * pixels);
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
        p_.tile.transpose_store(own.z + i * columns * l, l, one_run ? rows * columns : columns,
                                plane + (row + i * step) * y.sh + column, y.sc, channels);
      return;
    }
    for (index i = 0; i < rows; i++) {
      p_.tile.transpose_store(own.z + i * columns * l, l, columns, own.staged, columns, channels);
      for (int c = 0; c < channels; c++) writer_.write(own.staged + c * columns, n, o + c, row + i * step, column, columns);
    }
  }

  Problem<T> p_;
  const Call<T>& call_;
  RowReader<T> reader_;
  RowWriter<T> writer_;
  Blocking b_;
  Workspace work_;
  bool in_place_;
  index v_at_[max_phases][max_products];
};

// ---- packing -------------------------------------------------------------------------------------------------------
// The taps of one stride phase, one channel and `lanes` output channels: taps[(a*rw + b)*lanes + l].
template <class T>
void pack_vector(const Problem<T>& p, const WeightView& w, index group, index o, index channels, index width, T* u) {
  const Geometry& g = p.g;
  const Axis &h = p.tiling.h, &v = p.tiling.w;
  const index l = p.lanes;
  std::vector<T> read(g.taps() * l), taps(h.r * v.r * l);
  index at[max_phases][max_products];
  for (index phase = 0; phase < p.tiling.stride_phases(); phase++) p.rows.offsets(p.tiling, phase, width, 0, at[phase]);
  for (index c = 0; c < p.rows.channels; c++) {
    for (index i = 0; i < channels; i++)
      read_taps(p.isa, w, group, o + i, c, g.kh, g.kw, read.data() + i * g.taps());
    for (index phase = 0; phase < p.tiling.stride_phases(); phase++) {
      const index ph = phase / v.stride, pw = phase % v.stride;
      std::fill(taps.begin(), taps.end(), T(0));
      for (index y = ph; y < g.kh; y += h.stride)
        for (index x = pw; x < g.kw; x += v.stride)
          for (index i = 0; i < channels; i++)
            taps[((y / h.stride) * v.r + x / v.stride) * l + i] = read[i * g.taps() + y * g.kw + x];
      p.f.weight(taps.data(), h.used(ph), v.used(pw), at[phase], u + c * width);
    }
  }
}

}  // namespace

template <class T>
index packed_size(const Plan& plan) {
  const Problem<T> p(plan);
  return checked_mul(p.g.groups, p.panels.group_size());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  const Problem<T> p(plan);
  const index vectors = ceil_div(p.g.group_oc(), p.lanes);
  parallel_for(p.g.groups * vectors, [&](index task, int) {
    const index group = task / vectors, o = task % vectors * p.lanes, panel = o / p.panels.width;
    pack_vector(p, w, group, o, std::min(p.lanes, p.g.group_oc() - o), p.panels.stored(panel),
                dst + p.panels.offset(group, panel) + o % p.panels.width);
  });
}

template <class T>
void run(const Call<T>& call) {
  Forward<T>(call).run();
}

#define KONV_WINOGRAD(T)                                          \
  template index packed_size<T>(const Plan&);                     \
  template void pack<T>(const Plan&, const WeightView&, T*);      \
  template void run<T>(const Call<T>&);
KONV_WINOGRAD(float)
KONV_WINOGRAD(double)

}  // namespace konv::winograd
