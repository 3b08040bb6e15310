// Direct convolution: two drivers, one for each register tile: pixel_lane.cpp, under 1x1 kernels by pointwise.cpp, and
// output_lane.cpp. Both add the products of one output in the same order, k = (channel, kh, kw), onto the bias, so that
// they agree to the last bit on one instruction set.
#pragma once
#include "../plan.hpp"
#include "pack.hpp"

// Planes and sums of one block: half of a 1 MiB L2, the weights need the rest.
namespace konv::pixel_lane { constexpr index cache_bytes = 512 << 10; }

namespace konv::pointwise {
// What pixel_lane does with a 1x1 kernel; images are of one row where memory allows it.
template <class T> void run(const Call<T>& call, const Geometry& g);
}  // namespace konv::pointwise

namespace konv::direct {

// bfloat16 in pairs: channels 2c and 2c + 1 of the image and of the weight are one, where the CPU multiplies so.
inline bool in_pairs(const Problem& p) {
  return p.isa->pairs && p.scalar == Scalar::bf16 && p.parts == 1 && p.g.group_c() % 2 == 0;
}
template <class T> const TileTable<T>& tiles(const Problem& p) {
  if constexpr (std::is_same_v<T, float>)
    if (in_pairs(p)) return *p.isa->pairs;
  return p.isa->tiles.of<T>();
}
// The problem as tiles see it: two channels of a pair are one. `apart` names the channels' distance in a view.
inline Geometry seen(const Problem& p) {
  Geometry g = p.g;
  if (in_pairs(p)) g.c /= 2;
  return g;
}
template <class V> V seen(const Problem& p, V v, index V::* apart) {
  if (in_pairs(p)) v.scalar = Scalar::bf16x2, v.*apart *= 2;
  return v;
}

// A 1x1 convolution does not know rows.
inline bool flattens(const Geometry& g) {
  return g.taps() == 1 && g.stride_h == 1 && g.stride_w == 1 && !g.pad_top && !g.pad_left && g.oh == g.h && g.ow == g.w;
}

// 1x1 with many channels for each filter: reading the image takes the time, unless a line of the cache serves so many
// filters that the next ones come meanwhile. Tall tiles read it in place (1.0 to 1.5 times as fast).
template <class T> bool tall(const Problem& p) {
  const auto& tiles = direct::tiles<T>(p);
  return tiles.tall_rows > tiles.p_rows && flattens(p.g) && p.scalar == scalar_of<T> && p.parts == 1 &&
         p.g.group_c() >= 2 * p.g.group_oc();
}

// Rows of output channels of the pixel-lane tile. Near-equal panels; where registers are many, 8 rows leave room for
// three vectors of pixels, which is better than 10 or 11 rows with two when it divides the channels. Both parts of a
// complex channel are in one panel, so that one thread writes them: each lies in the gaps of the other (isa/rows.cpp).
template <class T> index tile_rows(const Problem& p) {
  const index all = p.g.group_oc(), most = tall<T>(p) ? tiles<T>(p).tall_rows : tiles<T>(p).p_rows;
  const index even = round_up(ceil_div(all, ceil_div(all, most)), p.parts);
  return even > 8 && even <= tiles<T>(p).p_rows && all % 8 == 0 ? 8 : even;
}

// Weights of a plan: one to three vectors of output channels, the rows of the pixel-lane tile, or one filter.
template <class T> Panels panels(const Plan& plan) {
  const Geometry g = seen(plan);
  const index k = g.group_c() * g.taps(), lanes = tiles<T>(plan).lanes;
  if (plan.algorithm == &output_lane::algorithm) return output_panels(g.group_oc(), k, lanes);
  if (plan.algorithm == &channel_lane::algorithm) return {g.group_oc(), k, lanes, lanes};
  return {g.group_oc(), k, plan.algorithm == &depthwise::algorithm ? 1 : tile_rows<T>(plan), 1};
}
template <class T> index packed_size(const Plan& plan) {
  return checked_mul(plan.g.groups, panels<T>(plan).group_size());
}
template <class T> void pack(const Plan& plan, const WeightView& weight, T* dst) {
  const Geometry g = seen(plan);
  const WeightView w = seen(plan, weight, &WeightView::si);
  const Panels panels = direct::panels<T>(plan);
  const index all = g.groups * panels.count(), work = all * panels.width * panels.k;
  const int threads = static_cast<int>(std::min<index>({all, num_threads(), 1 + work / 65536}));
  each_task<T>(all, threads, panels.k, least_limit, [&](index task, int, T* row) {
    const index group = task / panels.count(), panel = task % panels.count();
    const index stored = panels.stored(panel), kept = panels.kept(panel);
    T* to = dst + panels.offset(group, panel);
    if (kept < stored) std::fill_n(to, stored * panels.k, T(0));
    for (index r = 0; r < kept; r++) {
      read_channel<T>(*plan.isa, w, g, group, panels.first(panel) + r, row);
      for (index k = 0; k < panels.k; k++) to[k * stored + r] = row[k];
    }
  });
}

inline int useful_threads(const Geometry& g, index n) {
  return threads_for(double(n) * double(g.oc) * double(g.oh) * double(g.ow) * double(g.group_c() * g.taps()));
}

// Of an output of a depthwise layer, for each_range: what is read and written for it; taps are summed eight at a time.
inline index depthwise_work(const Geometry& g) { return 1 + g.taps() / 8 + g.h * g.w / (g.oh * g.ow); }

constexpr index blocks_a_thread = 6;

// Cuts `count` into near-equal blocks of at most `most`, each of which occurs `copies` times (images, groups). Where
// these are too few to share out evenly, blocks get smaller, down to `least`: who is slowed down by other work takes
// fewer. Of these sizes it returns the least, or one that saves 5 %, which may be smaller still: two threads take as
// long over 3 blocks as 4.
inline index balanced(index count, index most, index copies, int threads, index least) {
  const index enough = threads == 1 ? 1 : ceil_div(blocks_a_thread * threads, copies);
  const index whole = count / std::max(index{1}, least);  // blocks at most
  const index fewest = ceil_div(count, most), finest = std::max(fewest, std::min(enough, whole));
  index best = 0, shortest = 0;  // what the busiest thread gets
  const auto consider = [&](index blocks) {
    const index size = ceil_div(count, blocks), made = ceil_div(count, size), tasks = made * copies;
    index longest = ceil_div(tasks, threads) * size;
    if (tasks % threads == 1) longest = std::max(longest - size, longest - (made * size - count));  // the last is short
    if (best == 0 || 20 * longest < 19 * shortest) best = size, shortest = longest;
  };
  for (index blocks = finest; blocks >= fewest; blocks--) consider(blocks);
  for (index blocks = finest + 1; threads > 1 && blocks <= std::min(2 * finest, whole); blocks++) consider(blocks);
  return best;
}

// Where memory allows it, then, these numbers are of one row.
template <class Y> void one_row(Geometry& g, ImageView& x, Y& y) {
  if (!flattens(g) || x.sh != g.w * x.sw || y.sh != g.w * y.sw) return;
  g.w = g.ow = x.w = y.w = g.w * g.h;
  g.h = g.oh = x.h = y.h = 1;
}
}  // namespace konv::direct
