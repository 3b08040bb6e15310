// What Winograd's forward pass and its weight gradient share: the problem in numbers, the scratch of a thread, and
// tiles of the image transformed into V (layouts: winograd_tiling.hpp, winograd.cpp).
#pragma once
#include "pack.hpp"
#include "rows.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {

template <class T> const WinogradTransform<T>& find_transform(const IsaTable& isa, const Axis& h, const Axis& w) {
  for (const WinogradTransform<T>& f : isa.winograd.of<T>())
    if (f.mh == h.m && f.mw == w.m && f.rh == h.r && f.rw == w.r) return f;
  throw std::invalid_argument("konv: there is no such Winograd transform for this kernel");
}

// Everything a call derives from its geometry; T is the compute type.
template <class T> struct Problem {
  const Geometry& g;
  const IsaTable& isa;
  Tiling tiling;
  const WinogradTransform<T>& f;
  Rows rows;
  index lanes;
  Panels panels;  // of one group's output channels
  bool windows;   // tiles begin m columns apart; else 1, and lie side by side

  explicit Problem(const Plan& plan) : Problem(plan.g, *plan.isa, plan.tile, plan.across, plan.taps) {}
  Problem(const Geometry& g, const IsaTable& isa, index mh, index mw, index r)
      : g(g), isa(isa), tiling(g, mh, mw, r), f(find_transform<T>(isa, tiling.h, tiling.w)), rows(tiling, g.group_c()),
        lanes(isa.tiles.of<T>().lanes), panels(output_panels(g.group_oc(), rows.all, lanes)),
        windows(tiling.step() > 1) {}

  index products() const { return f.products(); }
  // Room in a row of s for whole vectors and whole windows.
  index s_pitch() const { return round_up(tiling.cells() + std::max<index>(lanes, 8), lanes); }
  index v_size(index pitch) const {
    return round_up(checked_add(checked_mul(rows.all, pitch), products() * lanes), lanes);
  }
  int threads(index segments) const {
    return threads_for(double(segments * tiling.tiles()) * double(rows.all) * double(g.oc));
  }
};

// The segments of a call, in near-equal runs.
struct Blocks {
  int threads;
  index segments, blocks;
  index pitch;                          // from one row of V to the next
  index part;                           // segments whose tiles are transformed together
  struct { index v, m, taps; } values;  // of a thread's arrays that a driver asks for

  index first(index block) const { return segments * block / blocks; }
  index most() const { return ceil_div(segments, blocks); }
};

constexpr index most_lines = 1024;  // that are fetched ahead for a channel

// Arrays of one thread, on whole cache lines; from a null base, it only learns their size.
template <class T> struct Scratch {
  T *s, *strip;   // image rows, columns transformed; rows of one segment, staged, or one of zeros
  T *z, *staged;  // pixels of a segment, output channels in lanes; the same, transposed
  T *v, *m, *taps;
  Segment* segments;
  index *window, *lines;
  index bytes = 0;

  Scratch(const Problem<T>& p, const Blocks& b, char* base) {
    const Tiling& t = p.tiling;
    const auto take = [&]<class E>(E*& array, index count) {
      array = base ? reinterpret_cast<E*>(base + bytes) : nullptr;
      bytes = checked_add(bytes, round_up(checked_mul(count, sizeof(E)), 64));
    };
    take(s, b.part * p.f.ah() * p.s_pitch());
    take(strip, (t.w.stride == 2 ? 2 * b.part : 1) * p.f.ah() * t.cells());
    take(z, p.f.mh * t.pixels() * p.lanes);
    take(staged, p.f.mh * t.pixels() * p.lanes);
    take(v, b.values.v);
    take(m, b.values.m);
    take(taps, b.values.taps);
    take(segments, b.part);
    take(window, b.part * t.tiles() + p.lanes);
    take(lines, most_lines);
  }
  static index size(const Problem<T>& p, const Blocks& b) { return Scratch(p, b, nullptr).bytes; }
};

template <class T> class InputTransform {
 public:
  InputTransform(const Problem<T>& p, const ImageView& x, index n, const Blocks& b)
      : p_(p), x_(x), reader_(p.isa, x, p.g.mode), pitch_(b.pitch), part_(b.part),
        in_place_(reader_.in_place(0, 0, 0) && p.tiling.w.stride == 1 && p.g.mode == PadMode::zeros),
        fetches_(p.rows.channels >= 8 && bytes_of(p.g, x.scalar, n) > index{1} << 20) {}

  // Where the rows of product xi begin.
  index offset(index xi) const { return p_.rows.before[xi] * pitch_ + xi * p_.lanes; }

  // Channels [from, to) of a group, segments [first, end), into V, whose parts lie `step` apart.
  void run(const Scratch<T>& own, index first, index end, index group, index from, index to, T* v, index step) const {
    for (; first < end; first += part_, v += step)
      transform(own, first, std::min(part_, end - first), group, from, to, v);
  }
 private:
  // First all columns of a channel, then all rows: loads would wait for vectors just stored at other places.
  void transform(const Scratch<T>& own, index first, index count, index group, index from, index to, T* v) const {
    const index step = p_.f.ah() * p_.s_pitch();
    index* window = own.window;
    for (index i = 0; i < count; i++) {
      own.segments[i] = p_.tiling.segment(first + i);
      for (index t = 0; t < p_.tiling.tiles(); t++) *window++ = i * step + t * p_.tiling.w.m;
    }
    std::fill_n(window, p_.lanes, 0);  // less than a vector of tiles is filled up
    if (in_place_) std::fill_n(own.strip, p_.tiling.cells(), T(0));
    const index slices = p_.tiling.slices();
    index at[max_slices][max_products], lines = 0;
    for (index slice = 0; slice < slices; slice++) {
      p_.rows.offsets(p_.tiling, slice, pitch_, p_.lanes, at[slice]);
      for (index i = 0; fetches_ && due(slice) && i < count; i++)
        lines += reader_.lines(block_of(own.segments[i], slice, 0), own.lines + lines, most_lines - lines);
    }
    const index vectors = ceil_div(count * p_.tiling.tiles(), p_.lanes), steps = slices * vectors * p_.f.ah();
    for (index c = from; c < to; c++) {
      const index channel = group * p_.rows.channels + c;
      Fetch ahead{x_.plane(0, std::min(channel + 1, p_.g.c - 1)), own.lines, own.lines + lines, ceil_div(lines, steps)};
      for (index slice = slices - 1; slice >= 0; slice--) {
        // Columns beyond the image stay so from channel to channel.
        if (in_place_ && (c == from || p_.tiling.w.slices > 1)) std::fill_n(own.s, count * step, T(0));
        for (index i = 0; i < count; i++) columns_of(own, i, slice, channel, own.s + i * step);
        rows_of(own, count, at[slice], v + c * pitch_, ahead);
      }
    }
  }

  // What is read of a channel. Both column phases of a stride of 2 are staged at once, when the first of them is due.
  bool due(index slice) const { return p_.tiling.w.stride != 2 || slice % 2; }
  RowBlock block_of(const Segment& segment, index slice, index c) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const bool pairs = w.stride == 2, odd = pairs && slice % 2;
    const index row = h.cell(segment.tile_h * h.m, segment.phase_h, slice / w.slices);
    const index column = w.cell(segment.tile_w * w.m, 0, slice % w.slices), cells = p_.tiling.cells();
    RowBlock b{{segment.n, c, row, column - odd}, p_.f.ah(), cells, h.stride * h.dilation, w.stride};
    if (pairs) b.count = 2 * cells, b.step = 1, b.half = cells;
    return b;
  }

  // The rows of one segment and channel, in place or staged, transformed column by column into s.
  void columns_of(const Scratch<T>& own, index at, index slice, index c, T* s) const {
    const RowBlock b = block_of(own.segments[at], slice, c);
    const index count = p_.tiling.cells();
    const T* rows[max_products];
    index first = 0, last = count;
    if (in_place_) {
      first = std::clamp<index>(-b.column, 0, count);
      last = std::clamp<index>(p_.g.w - b.column, first, count);
      const T* plane = static_cast<const T*>(x_.plane(b.n, c)) + b.column;
      for (index i = 0, y = b.row; i < b.rows; i++, y += b.row_step)
        rows[i] = y >= 0 && y < p_.g.h ? plane + y * x_.sh : own.strip;
    } else {
      T* strip = own.strip + (b.half > 0 ? at : 0) * b.rows * b.count;
      if (due(slice)) reader_.read_rows(strip, b.count, b);
      for (index i = 0; i < b.rows; i++) rows[i] = strip + i * b.count + (b.half > 0 && slice % 2 ? count : 0);
    }
    p_.f.input_columns(rows, first, last, s, p_.s_pitch());
  }

  // The rows of s, tile by tile into V.
  void rows_of(const Scratch<T>& own, index segments, const index* at, T* v, Fetch& ahead) const {
    const Tiling& t = p_.tiling;
    const index pitch = p_.s_pitch();
    if (p_.windows) return p_.f.input_tiles({own.s, pitch, own.window, 1, segments * t.tiles(), at, v, &ahead});
    for (index i = 0; i < segments; i++)
      for (index k = 0; k < t.runs(); k++, v += t.run()) {
        const T* s = own.s + i * p_.f.ah() * pitch + k * t.w.m * t.w.dilation;
        p_.f.input_tiles({s, pitch, nullptr, t.w.dilation, t.run(), at, v, &ahead});
      }
  }

  const Problem<T>& p_;
  ImageView x_;
  RowReader<T> reader_;
  index pitch_, part_;
  bool in_place_;
  bool fetches_;  // what is in L2 comes soon enough, and few channels do not repay the list of lines
};
}  // namespace konv::winograd
