// Packing of weights: see pack.hpp for the layout.
#include "pack.hpp"
#include <algorithm>
#include <vector>
#include "../parallel.hpp"

namespace konv {

template <class T>
void read_taps(const IsaTable& isa, const WeightView& w, index g, index o, index i, index kh, index kw, T* dst) {
  const RowTable<T>& rows = isa.rows.of<T>();
  const index bytes = scalar_bytes(w.scalar);
  // Complex: output part p from input part q is the element (p, q) of [[re, -im], [im, re]].
  const index p = o % w.parts, q = i % w.parts;
  const index at = g * w.sg + o / w.parts * w.so + i / w.parts * w.si + (p != q);
  const char* source = static_cast<const char*>(w.data) + at * bytes;
  if (w.sh == w.sw * kw || kh == 1) {
    rows.load(w.scalar, dst, source, w.sw, kh * kw);
  } else {
    for (index r = 0; r < kh; r++) rows.load(w.scalar, dst + r * kw, source + r * w.sh * bytes, w.sw, kw);
  }
  if (p < q)
    for (index t = 0; t < kh * kw; t++) dst[t] = T(0) - dst[t];
}

namespace {

// All k of output channel o. Real weights whose channels follow each other are one run.
template <class T>
void read_channel(const IsaTable& isa, const WeightView& w, const Geometry& g, index group, index o, T* dst) {
  const bool one_run = w.parts == 1 && (w.sh == w.sw * g.kw || g.kh == 1) && w.si == w.sw * g.taps();
  if (one_run) {
    const char* source = static_cast<const char*>(w.data) + (group * w.sg + o * w.so) * scalar_bytes(w.scalar);
    isa.rows.of<T>().load(w.scalar, dst, source, w.sw, g.group_c() * g.taps());
    return;
  }
  for (index i = 0; i < g.group_c(); i++) read_taps<T>(isa, w, group, o, i, g.kh, g.kw, dst + i * g.taps());
}

}  // namespace

template <class T>
void pack_panels(const IsaTable& isa, const WeightView& w, const Geometry& g, const Panels& panels, T* dst) {
  const index all = g.groups * panels.count();
  const int threads =
      static_cast<int>(std::min<index>({all, num_threads(), 1 + all * panels.width * panels.k / 65536}));
  std::vector<std::vector<T>> rows(threads, std::vector<T>(panels.k));
  parallel_for(all, [&](index task, int slot) {
    const index group = task / panels.count(), panel = task % panels.count();
    const index stored = panels.stored(panel), kept = panels.kept(panel);
    T* to = dst + panels.offset(group, panel);
    if (kept < stored) std::fill_n(to, stored * panels.k, T(0));
    T* row = rows[slot].data();
    for (index r = 0; r < kept; r++) {
      read_channel<T>(isa, w, g, group, panels.first(panel) + r, row);
      for (index k = 0; k < panels.k; k++) to[k * stored + r] = row[k];
    }
  }, threads);
}

#define KONV_PACK(T)                                                                                     \
  template void read_taps<T>(const IsaTable&, const WeightView&, index, index, index, index, index, T*); \
  template void pack_panels<T>(const IsaTable&, const WeightView&, const Geometry&, const Panels&, T*);
KONV_PACK(float)
KONV_PACK(double)
KONV_PACK(index)

}  // namespace konv
