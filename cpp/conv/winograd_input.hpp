// What Winograd's forward pass and its weight gradient share: the problem in numbers, and tiles of the image
// transformed into V (layouts: winograd_tiling.hpp, winograd.cpp).
#pragma once
#include <stdexcept>

#include "pack.hpp"
#include "rows.hpp"
#include "winograd_tiling.hpp"

namespace konv::winograd {

constexpr index few_tiles = 5;  // up to so many in a row, lanes are filled with tiles of several rows

template <class T>
const WinogradTransform<T>& find_transform(const Geometry& g, const IsaTable& isa, index m) {
  const index rh = Axis::taps(g.kh, g.stride_h), rw = Axis::taps(g.kw, g.stride_w);
  const auto* f = isa.winograd<T>().find(rh == 1 ? 1 : m, rw == 1 ? 1 : m, rh, rw);
  if (!f) throw std::invalid_argument("konv: there is no such Winograd transform for this kernel");
  return *f;
}

// Everything a call derives from its geometry; T is the compute type.
template <class T>
struct Problem {
  const Geometry& g;
  const IsaTable& isa;
  const WinogradTransform<T>& f;
  Tiling tiling;
  Rows rows;
  index lanes;
  Panels panels;  // of one group's output channels
  bool windows;   // lanes are filled with tiles of several rows

  Problem(const Geometry& g, const IsaTable& isa, index m)
      : g(g),
        isa(isa),
        f(find_transform<T>(g, isa, m)),
        tiling(Tiling::of(g, f.mh, f.mw)),
        rows(tiling, g.group_c()),
        lanes(isa.winograd<T>().lanes),
        panels{g.group_oc(), rows.all, 2 * lanes, lanes},
        windows(tiling.w.dilation == 1 && tiling.w.tiles <= few_tiles) {}

  index products() const { return tiling.products(); }
  index strip() const { return tiling.columns(tiling.segment_count()); }
  // Room in a row of s for whole vectors and for the columns of the tiles that fill the last vector.
  index s_pitch() const { return round_up(strip() + lanes + (windows ? 8 : lanes * tiling.w.m), lanes); }
  // Lanes written past the last of `tiles` tiles in a row of V: vectors are written whole.
  index overshoot(index tiles) const {
    if (windows) return round_up(tiles, lanes) - tiles;
    if (tiling.parts > 1) return lanes;
    const index row = tiling.w.dilation == 1 ? tiling.segment_tiles() : tiling.w.phases;
    return isa.winograd<T>().padded_tiles(row) - row;
  }
  index v_size(index pitch) const { return checked_add(checked_mul(rows.all, pitch), products() * lanes); }
  // Tiles (of each column phase) that are brought between lanes and rows at a time: long rows are stored faster (5 % of
  // a 224 x 224 layer) than pieces of them, as long as z stays in L2.
  index z_count() const {
    const index bytes = f.mh * f.mw * tiling.w.dilation * lanes * static_cast<index>(sizeof(T));
    return std::clamp<index>((index{96} << 10) / bytes, 1, tiling.segment_count());
  }
  index z_columns() const { return z_count() * tiling.w.m * tiling.w.dilation; }
};

// Cuts memory into arrays on whole cache lines; from a null base, it only learns the size.
struct Carver {
  char* base;
  index bytes = 0;

  template <class E>
  void take(E*& array, index count) {
    array = base ? reinterpret_cast<E*>(base + bytes) : nullptr;
    bytes = checked_add(bytes, round_up(checked_mul(count, sizeof(E)), 64));
  }
};

// Scratch of one thread for `most` segments at a time.
template <class T>
struct InputScratch {
  T *s, *strip, *zeros;
  Segment* segments;
  index* window;

  InputScratch(const Problem<T>& p, index most, Carver& carver) {
    carver.take(s, most * p.f.ah() * p.s_pitch());
    carver.take(strip, p.f.ah() * round_up(p.strip(), p.lanes));
    carver.take(zeros, p.strip() + p.lanes);
    carver.take(segments, most);
    carver.take(window, round_up(most * p.tiling.segment_tiles(), p.lanes));
    if (carver.base) std::fill_n(zeros, p.strip() + p.lanes, T(0));
  }
};

template <class T>
class InputTransform {
 public:
  // `pitch`: from one row of V to the next.
  InputTransform(const Problem<T>& p, const ImageView& x, index pitch)
      : p_(p),
        x_(x),
        reader_(p.isa, x, p.g.mode),
        pitch_(pitch),
        in_place_(reader_.in_place(0, 0, 0) && p.tiling.w.stride == 1 && p.g.mode == PadMode::zeros) {
    for (index phase = 0; phase < p.tiling.stride_phases(); phase++)
      p.rows.offsets(p.tiling, phase, pitch, p.lanes, at_[phase]);
  }

  // Where the rows of product xi begin.
  index offset(index xi) const { return at_[0][xi]; }

  // Channels [from, to) of a group, segments [first, first + count), into V.
  //
  // First all columns of a channel, then all rows: rows that were just written in vectors of other places would make
  // the loads wait for the stores.
  void run(const InputScratch<T>& own, index first, index count, index group, index from, index to, T* v) const {
    const index pitch = p_.s_pitch(), step = p_.f.ah() * pitch;
    for (index i = 0; i < count; i++) own.segments[i] = p_.tiling.segment(first + i);
    if (p_.windows) set_windows(own, count);
    for (index phase = 0; phase < p_.tiling.stride_phases(); phase++) {
      const int rows = p_.tiling.h.used(phase / p_.tiling.w.stride),
                columns = p_.tiling.w.used(phase % p_.tiling.w.stride);
      const index* at = at_[phase];
      for (index c = from; c < to; c++) {
        T* to_v = v + c * pitch_;
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

 private:
  void rows_of(const T* s, const Segment& segment, int rows, int columns, const index* at, T* v) const {
    const Axis& w = p_.tiling.w;
    if (w.dilation == 1) return p_.f.input_rows(s, p_.s_pitch(), segment.tiles, rows, columns, at, v);
    for (index t = 0; t < segment.count; t++)
      p_.f.input_phases(s + t * w.m * w.dilation, p_.s_pitch(), w.dilation, w.phases, rows, columns, at,
                        v + t * w.phases);
  }

  // Where each tile of a block begins in s; the lanes that fill the last vector repeat the first tile.
  void set_windows(const InputScratch<T>& own, index segments) const {
    const index each = p_.tiling.w.tiles, tiles = segments * each;
    for (index t = 0; t < round_up(tiles, p_.lanes); t++)
      own.window[t] = t < tiles ? t / each * p_.f.ah() * p_.s_pitch() + t % each * p_.tiling.w.m : 0;
  }

  // The rows of one segment and channel, in place or staged, transformed column by column into s.
  void columns_of(const InputScratch<T>& own, const Segment& segment, index phase, index c, T* s) const {
    const Axis &h = p_.tiling.h, &w = p_.tiling.w;
    const index count = p_.tiling.columns(segment.count);
    const index row = segment.tile_h * h.m, row_phase = segment.phase_h + phase / w.stride;
    const index column = w.cell(segment.tile_w * w.m, phase % w.stride);
    const T* rows[max_products];
    index first = 0, last = count;
    if (in_place_) {
      first = std::clamp<index>(-column, 0, count);
      last = std::clamp<index>(p_.g.w - column, first, count);
      const T* plane = static_cast<const T*>(x_.plane(segment.n, c)) + column;
      for (index i = 0; i < p_.f.ah(); i++) {
        const index y = h.cell(row + i, row_phase);
        rows[i] = y >= 0 && y < p_.g.h && first < last ? plane + y * x_.sh : own.zeros;
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

  const Problem<T>& p_;
  ImageView x_;
  RowReader<T> reader_;
  index pitch_;
  bool in_place_;
  index at_[max_phases][max_products];
};

}  // namespace konv::winograd
