// 1x1 convolution with stride 1 and no padding: a matrix product whose right side is the image as it lies in memory.
//
//   y[o][q] = bias[o] + sum_c w[o][c] * x[c][q]          q runs over all h*w pixels of an image
//
// The pixel-lane tile takes channel c at the distance c * (channel stride): nothing is copied, and the tile writes
// straight into the output. A vector must not reach past the image, so the last pixels that do not fill one are copied.
//
// Loops: block of pixels (its channels fit in half of L2) -> panel of output channels -> vectors of pixels -> channels.
//
// Copying pays after all when the image must be converted, when rows or pixels have gaps, and when channels lie at such
// a power of two that the lines of one block evict each other; that is what `matrix` does, with the same weights.
#include <numeric>
#include <vector>

#include "../workspace.hpp"
#include "direct.hpp"
#include "rows.hpp"

namespace konv::pointwise {
namespace {

constexpr index cache_bytes = 512 << 10;

// L2 of 1 MiB in 8 ways (also 2 MiB in 16): addresses 128 KiB apart compete for 8 places.
constexpr index way_bytes = 128 << 10, ways = 8;

bool channels_collide(index stride_bytes, index channels) {
  const index places = way_bytes / std::gcd(stride_bytes, way_bytes) * ways;
  return channels > places;
}

template <class T>
bool in_place(const Call<T>& call) {
  const Geometry& g = call.plan.g;
  const RowReader<T> reader(*call.plan.isa, call.x, g.mode);
  const RowWriter<T> writer(*call.plan.isa, call.y);
  return call.x.parts == 1 && call.x.plane_contiguous() && call.y.plane_contiguous() && reader.in_place(0, 0, 0) &&
         writer.in_place(0, 0) && !channels_collide(call.x.sc * index(sizeof(T)), g.group_c());
}

template <class T>
void run_in_place(const Call<T>& call) {
  const Geometry& g = call.plan.g;
  const auto& tiles = call.plan.isa->tiles.template of<T>();
  const Panels panels = direct::pixel_panels<T>(call.plan);
  const index pixels = g.h * g.w, whole = pixels / tiles.lanes * tiles.lanes, left = pixels - whole;
  const index unit = 3 * tiles.lanes;

  int threads = direct::useful_threads(g, call.n);
  index columns =
      std::clamp(cache_bytes / index(sizeof(T)) / std::max<index>(1, g.group_c()) / unit * unit, unit, 8 * unit);
  columns = round_up(direct::balanced(pixels, columns, call.n * g.groups, threads, 2 * unit), tiles.lanes);
  const index blocks = ceil_div(pixels, columns), all = call.n * g.groups * blocks;
  const index parts = all >= threads ? 1 : std::min(panels.count(), ceil_div(threads, all));
  threads = static_cast<int>(std::min<index>(threads, all * parts));

  // Distances of the channels, in the image and in the copy of its last pixels.
  std::vector<index> image(g.group_c()), copy(g.group_c());
  for (index c = 0; c < g.group_c(); c++) image[c] = c * call.x.sc, copy[c] = c * tiles.lanes;
  const index slot_bytes = round_up(left ? g.group_c() * tiles.lanes * index(sizeof(T)) : 0, 64);
  threads = direct::threads_within(direct::scratch_limit(call), 0, slot_bytes, threads);
  Workspace scratch(0, slot_bytes, threads);

  parallel_for(
      all * parts,
      [&](index task, int slot) {
        const index part = task % parts, first = task / parts % blocks * columns;
        const index group = task / parts / blocks % g.groups, n = task / parts / blocks / g.groups;
        const index last = std::min(first + columns, whole);
        const T* x = static_cast<const T*>(call.x.plane(n, group * g.group_c()));
        T* tail = scratch.slot<T>(slot);
        const bool has_tail = left && first + columns >= pixels;
        if (has_tail)
          for (index c = 0; c < g.group_c(); c++) std::copy_n(x + c * call.x.sc + whole, left, tail + copy[c]);
        for (index p = panels.count() * part / parts; p < panels.count() * (part + 1) / parts; p++) {
          const index channel = group * g.group_oc() + panels.first(p);
          const T* w = call.weight + panels.offset(group, p);
          T* y = static_cast<T*>(call.y.plane(n, channel));
          const auto tile = [&](index count, const T* from, const index* offset, T* to) {
            tiles.pixel_lane(static_cast<int>(panels.kept(p)), count, panels.k, w, from, offset, call.bias + channel,
                             to, call.y.sc);
          };
          if (last > first) tile(last - first, x + first, image.data(), y + first);
          if (has_tail) tile(left, tail, copy.data(), y + whole);
        }
      },
      threads);
}

}  // namespace

bool fits(const Geometry& g) { return direct::flattens(g); }

template <class T>
index packed_size(const Plan& plan) {
  return planes::algorithm.driver.of<T>().packed_size(plan);
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  planes::algorithm.driver.of<T>().pack(plan, w, dst);
}

template <class T>
void run(const Call<T>& call) {
  if (in_place(call)) run_in_place(call);
  else matrix::algorithm.driver.of<T>().run(call);
}

const Algorithm algorithm = {
    "pointwise", "direct pointwise", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::pointwise
