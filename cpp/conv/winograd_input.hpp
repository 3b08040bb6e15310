// What Winograd's forward pass and its weight gradient share: the problem in numbers, the scratch of a thread, and
// tiles of the image transformed into V (layouts: winograd_tiling.hpp, winograd.cpp).
#pragma once
#include "pack.hpp"
#include "rows.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {

template <class T> const WinogradTransform<T>& find_transform(const IsaTable& isa, const Axis& h, const Axis& w) {
  for (const WinogradTransform<T>& f : isa.winograd.of<T>().transforms)
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

  Problem(const Geometry& g, const IsaTable& isa, index m, index r)
      : g(g), isa(isa), tiling(g, m, r), f(find_transform<T>(isa, tiling.h, tiling.w)), rows(tiling, g.group_c()),
        lanes(isa.winograd.of<T>().lanes), panels(output_panels(g.group_oc(), rows.all, lanes)),
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

// Arrays of one thread, on whole cache lines; from a null base, it only learns their size.
template <class T> struct Scratch {
  T *s, *strip;   // image rows, columns transformed; rows of one segment, staged, or one of zeros
  T *z, *staged;  // pixels of a segment, output channels in lanes; one row of them, transposed
  T *v, *m, *taps;
  Segment* segments;
  index* window;
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
    take(staged, t.pixels() * p.lanes);
    take(v, b.values.v);
    take(m, b.values.m);
    take(taps, b.values.taps);
    take(segments, b.part);
    take(window, b.part * t.tiles() + p.lanes);
  }
  static index size(const Problem<T>& p, const Blocks& b) { return Scratch(p, b, nullptr).bytes; }
};

template <class T> class InputTransform {
 public:
  InputTransform(const Problem<T>& p, const ImageView& x, index n, const Blocks& b)
      : p_(p), x_(x), reader_(p.isa, x, p.g.mode), pitch_(b.pitch), part_(b.part),
        in_place_(reader_.in_place(0, 0, 0) && p.tiling.w.stride == 1 && p.g.mode == PadMode::zeros),
        fetches_(bytes_of(p.g, x.scalar, n) > cached_bytes) {}

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
    index at[max_slices][max_products];
    for (index slice = 0; slice < slices; slice++) p_.rows.offsets(p_.tiling, slice, pitch_, p_.lanes, at[slice]);
    for (index c = from; c < to; c++)
      for (index slice = slices - 1; slice >= 0; slice--) {
        // Columns beyond the image stay so from channel to channel.
        if (in_place_ && (c == from || p_.tiling.w.slices > 1)) std::fill_n(own.s, count * step, T(0));
        for (index i = 0; i < count; i++) columns_of(own, i, slice, group * p_.rows.channels + c, own.s + i * step);
        rows_of(own, count, at[slice], v + c * pitch_);
      }
  }

  // The rows of one segment and channel, in place or staged, transformed column by column into s. Both column phases of
  // a stride of 2 are staged at once, when the first of them is due.
  void columns_of(const Scratch<T>& own, index at, index slice, index c, T* s) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const Segment& segment = own.segments[at];
    const index count = p_.tiling.cells(), row = segment.tile_h * h.m, slice_h = slice / w.slices;
    const bool pairs = w.stride == 2, odd = pairs && slice % 2, due = odd || !pairs;
    const index pitch = pairs ? 2 * count : count;
    const index column = w.cell(segment.tile_w * w.m, 0, slice % w.slices);
    const Corner corner{segment.n, c, h.cell(row, segment.phase_h, slice_h), column};
    RowBlock b{corner, p_.f.ah(), count, h.stride * h.dilation, w.stride};
    if (pairs) b.column -= odd, b.count = pitch, b.step = 1, b.half = count;
    if (due && fetches_ && c + 1 < p_.g.c) reader_.fetch_next(b);
    const T* rows[max_products];
    index first = 0, last = count;
    if (in_place_) {
      first = std::clamp<index>(-column, 0, count);
      last = std::clamp<index>(p_.g.w - column, first, count);
      const T* plane = static_cast<const T*>(x_.plane(b.n, c)) + column;
      for (index i = 0, y = b.row; i < b.rows; i++, y += b.row_step)
        rows[i] = y >= 0 && y < p_.g.h ? plane + y * x_.sh : own.strip;
    } else {
      T* strip = own.strip + pairs * at * p_.f.ah() * pitch;
      if (due) reader_.read_rows(strip, pitch, b);
      for (index i = 0; i < b.rows; i++) rows[i] = strip + i * pitch + odd * count;
    }
    p_.f.input_columns(rows, first, last, s, p_.s_pitch());
  }

  // The rows of s, tile by tile into V.
  void rows_of(const Scratch<T>& own, index segments, const index* at, T* v) const {
    const Tiling& t = p_.tiling;
    const index pitch = p_.s_pitch();
    if (p_.windows) return p_.f.input_tiles({own.s, pitch, own.window, 1, segments * t.tiles(), at, v});
    for (index i = 0; i < segments; i++)
      for (index k = 0; k < t.runs(); k++, v += t.run())
        p_.f.input_tiles(
            {own.s + i * p_.f.ah() * pitch + k * t.w.m * t.w.dilation, pitch, nullptr, t.w.dilation, t.run(), at, v});
  }

  const Problem<T>& p_;
  ImageView x_;
  RowReader<T> reader_;
  index pitch_, part_;
  bool in_place_, fetches_;
};

}  // namespace konv::winograd
