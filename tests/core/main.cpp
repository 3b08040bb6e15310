// Unit tests of the kernels without Python: each instruction set's tables against plain loops, and each plan end to end
// against the definition of convolution. Small whole numbers make every sum exact, so that direct kernels must agree to
// the last bit; transforms may differ by a small part of the largest output.
//
// This is also how kernels for another CPU are tested: cross-compiled and run under an emulator.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <vector>
#include "conv/direct.hpp"
#include "conv/stage.hpp"
#include "cpu.hpp"
#include "parallel.hpp"
#include "plan.hpp"

namespace konv {
namespace {

int checks = 0, failures = 0;

void check(bool good, const std::string& what) {
  checks++;
  if (good) return;
  if (failures++ < 20) std::printf("FAILED %s\n", what.c_str());
}

// Numbers that are the same everywhere.
struct Random {
  std::uint64_t state = 88172645463325252ull;
  index below(index n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return static_cast<index>(state % static_cast<std::uint64_t>(n));
  }
  template <class T> std::vector<T> small(index count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& v : values) v = static_cast<T>(below(7) - 3);
    return values;
  }
};

// ---- tables --------------------------------------------------------------------------------------------------------
template <class T> void test_rows(const IsaTable& isa, Scalar scalar, Random& random) {
  const auto& rows = isa.rows.of<T>();
  const int s = static_cast<int>(scalar);
  if (!rows.load_block[s]) return;
  const index bytes = scalar_bytes(scalar);
  for (index count = 0; count < 70; count++)
    for (index stride : {1, 2, 3, 4, 5, -1, 0}) {
      // Whole numbers go to memory and come back unchanged whatever the type; uint8 has no negative ones.
      std::vector<T> values = random.small<T>(count), back(count + 1, T(99));
      if (scalar == Scalar::u8)
        for (T& v : values) v = v < T(0) ? T(0) - v : v;
      const index room = std::max<index>(1, (count - 1) * std::abs(stride) + 1);
      std::vector<char> memory(room * bytes);
      char* start = memory.data() + (stride < 0 ? (count ? count - 1 : 0) * bytes : 0);
      rows.store(scalar, start, stride, values.data(), count);
      rows.load(scalar, back.data(), start, stride, count);
      bool same = back[count] == T(99);
      for (index i = 0; i < count; i++) same &= back[i] == values[stride ? i : count - 1];
      check(same, std::string(isa.name) + " rows, scalar " + std::to_string(s) + " count " + std::to_string(count) +
                      " stride " + std::to_string(stride));
    }
}

// Blocks in a frame of zeros, whole or split; not a cell more is written.
template <class T> void test_blocks(const IsaTable& isa, Scalar scalar, Random& random) {
  const auto& table = isa.rows.of<T>();
  for (index count = 0; count < 40; count++)
    for (index stride : {1, 2, 3, 4, 5, -1})
      for (bool split : {false, true}) {
        const index left = random.below(11), right = random.below(11), top = random.below(3), bottom = random.below(3);
        const index rows = 2, total = left + count + right, half = split ? (total + 1) / 2 + 1 : 0, pitch = total + 4;
        const index src_pitch = count * std::abs(stride) + 1, bytes = scalar_bytes(scalar);
        std::vector<T> values = random.small<T>(rows * count);
        for (T& v : values) v = v < T(0) ? T(0) - v : v;
        std::vector<char> memory(rows * src_pitch * bytes);
        char* start = memory.data() + (stride < 0 ? count * bytes : 0);
        for (index r = 0; r < rows; r++)
          table.store(scalar, start + r * src_pitch * bytes, stride, values.data() + r * count, count);
        std::vector<T> found((top + rows + bottom) * pitch, T(99)), expected = found;
        for (index r = 0; r < top + rows + bottom; r++)
          for (index j = 0; j < total; j++) {
            const bool inside = r >= top && r < top + rows && j >= left && j < left + count;
            expected[r * pitch + (split ? j / 2 + j % 2 * half : j)] =
                inside ? values[(r - top) * count + j - left] : T(0);
          }
        table.load_block[static_cast<int>(scalar)](
            {found.data(), pitch, half, start, src_pitch, stride, top, rows, bottom, left, count, right});
        check(found == expected, std::string(isa.name) + " blocks, scalar " + std::to_string(static_cast<int>(scalar)) +
                                     " count " + std::to_string(count) + " stride " + std::to_string(stride));
      }
}

template <class T> void test_output_lane(const IsaTable& isa, Random& random) {
  const auto& tiles = isa.tiles.of<T>();
  for (int nv = 1; nv <= 3; nv++)
    for (index columns = 1; columns <= 2 * tiles.o_columns + 3; columns++) {
      const index k = 1 + random.below(40), width = nv * tiles.lanes, ldv = columns + random.below(3);
      const auto u = random.small<T>((k + 16) * width), v = random.small<T>(k * ldv), init = random.small<T>(width);
      std::vector<T> m(columns * width);
      tiles.output_lane(nv, columns, {k, u.data(), m.data(), width, init.data(), 0}, v.data(), ldv);
      bool same = true;
      for (index t = 0; t < columns; t++)
        for (index l = 0; l < width; l++) {
          T sum = init[l];
          for (index i = 0; i < k; i++) sum += u[i * width + l] * v[i * ldv + t];
          same &= sum == m[t * width + l];
        }
      for (const bool reversed : {false, true}) {  // columns in any order, steps with gaps between them
        std::vector<T> scattered(m.size()), values(columns * k), apart((2 * k + 16) * width);
        std::vector<Place> column, step;
        for (index t = 0; t < columns; t++) {
          const index at = reversed ? columns - 1 - t : t;
          column.push_back({at, at});
        }
        for (index i = 0; i < k; i++) {
          step.push_back({i * ldv, 2 * i + reversed});
          std::copy_n(&u[i * width], width, &apart[step[i].row * width]);
        }
        tiles.output_lane_at(nv, columns, {k, apart.data(), scattered.data(), width, init.data(), 0}, v.data(),
                             column.data(), step.data());
        same &= scattered == m;
        if (nv == 3) continue;
        std::vector<T> gathered(m.size());
        tiles.gather(columns, k, v.data(), column.data(), step.data(), values.data());
        tiles.output_lane_gathered(nv, columns, {k, apart.data(), gathered.data(), width, init.data(), 0},
                                   values.data(), column.data(), step.data(), reversed ? nullptr : u.data());
        same &= gathered == m;
      }
      check(same, std::string(isa.name) + " output_lane, columns " + std::to_string(columns));
    }
}

template <class T> void test_pixel_lane(const IsaTable& isa, Random& random) {
  const auto& tiles = isa.tiles.of<T>();
  for (int rows = 1; rows <= tiles.p_rows; rows++)
    for (index count = 1; count <= 7 * tiles.lanes + 1; count += 1 + random.below(tiles.lanes)) {
      const index k = random.below(30), ldy = count + 5;
      const auto x = random.small<T>(200 + 8 * tiles.lanes), w = random.small<T>(k * rows + 1);
      const auto bias = random.small<T>(rows), before = random.small<T>(rows * ldy);
      std::vector<index> offset(k + 1);
      for (index& o : offset) o = random.below(180);
      std::vector<T> y = before;
      tiles.pixel_lane(rows, count, k, w.data(), x.data(), offset.data(), bias.data(), y.data(), ldy);
      bool same = true;
      for (int r = 0; r < rows; r++)
        for (index q = 0; q < ldy; q++) {
          T sum = q >= count ? before[r * ldy + q] : bias[r];
          for (index i = 0; i < k && q < count; i++) sum += w[i * rows + r] * x[offset[i] + q];
          same &= sum == y[r * ldy + q];
        }
      check(same,
            std::string(isa.name) + " pixel_lane, rows " + std::to_string(rows) + " count " + std::to_string(count));
    }
}

// Packed as the tile reads it, and where it lies.
template <class T> void test_pixel_tiles(const IsaTable& isa, Random& random) {
  const auto& tiles = isa.tiles.of<T>();
  for (int rows = 1; rows <= tiles.tall_rows; rows++)
    for (index width = tiles.lanes; width <= tiles.vectors(rows) * tiles.lanes; width += tiles.lanes) {
      const index count = 1 + random.below(3 * width), k = random.below(30), channel = count + random.below(9);
      const index packed = round_up(count, width) * k, ldy = count + 5;
      const auto x = random.small<T>(k * channel + 2 * width), w = random.small<T>(k * rows + 1);
      const auto bias = random.small<T>(rows), before = random.small<T>(rows * ldy);
      std::vector<T> v(packed + 1, T(7)), y = before, in_place = before;
      tiles.pack_pixels(count, k, x.data(), channel, width, v.data());
      tiles.pixel_lane_tiles(rows, count, width, k, w.data(), v.data(), width, width * k, bias.data(), y.data(), ldy);
      tiles.pixel_lane_tiles(rows, count, width, k, w.data(), x.data(), channel, width, bias.data(), in_place.data(),
                             ldy);
      bool same = v[packed] == T(7);
      for (int r = 0; r < rows; r++)
        for (index q = 0; q < ldy; q++) {
          T sum = q >= count ? before[r * ldy + q] : bias[r];
          for (index i = 0; i < k && q < count; i++) sum += w[i * rows + r] * x[i * channel + q];
          same &= sum == y[r * ldy + q] && sum == in_place[r * ldy + q];
        }
      check(same, std::string(isa.name) + " pixel tiles, rows " + std::to_string(rows) + " width " +
                      std::to_string(width) + " count " + std::to_string(count));
    }
}

template <class T> void test_moves(const IsaTable& isa, Random& random) {
  const auto& tiles = isa.tiles.of<T>();
  for (int channels = 1; channels <= tiles.lanes; channels++)
    for (index count = 1; count <= 2 * tiles.lanes + 3; count++) {
      const index plane = count + 1;
      const auto src = random.small<T>(count * tiles.lanes);
      std::vector<T> dst(channels * plane, T(9));
      tiles.transpose_store(src.data(), tiles.lanes, count, dst.data(), plane, channels);
      bool same = true;
      for (int l = 0; l < channels; l++)
        for (index q = 0; q < plane; q++) same &= dst[l * plane + q] == (q < count ? src[q * tiles.lanes + l] : T(9));
      check(same, std::string(isa.name) + " transpose_store, channels " + std::to_string(channels));

      std::vector<T> back(count * tiles.lanes, T(9));
      tiles.transpose_load(dst.data(), plane, count, channels, back.data(), tiles.lanes);
      same = true;
      for (index i = 0; i < count * tiles.lanes; i++) same &= back[i] == (i % tiles.lanes < channels ? src[i] : T(0));
      check(same, std::string(isa.name) + " transpose_load, channels " + std::to_string(channels));
    }
}

// ---- plans ---------------------------------------------------------------------------------------------------------
// The cell of the image that is seen at place i of its padded axis, or -1. As the modes are defined, step by step.
index seen_at(index i, index size, PadMode mode) {
  if (mode == PadMode::zeros) return i < 0 || i >= size ? -1 : i;
  while (mode == PadMode::circular && i < 0) i += size;
  if (mode == PadMode::circular) return i % size;
  index at = 0, step = 1;  // walk there from cell 0, turned back at the ends or held by them
  for (index walked = 0; walked < std::abs(i); walked++) {
    if (mode == PadMode::replicate) at = i < 0 ? 0 : std::min(at + 1, size - 1);
    else if (at + step < 0 || at + step >= size) step = -step, at += step;
    else at += step;
  }
  return at;
}

template <class T>
T exact(const Geometry& g, const std::vector<T>& x, const std::vector<T>& w, T bias, index n, index o, index i,
        index j) {
  T sum = bias;
  const index group = o / g.group_oc();
  for (index c = 0; c < g.group_c(); c++)
    for (index a = 0; a < g.kh; a++)
      for (index b = 0; b < g.kw; b++) {
        const index row = seen_at(i * g.stride_h + a * g.dilation_h - g.pad_top, g.h, g.mode);
        const index column = seen_at(j * g.stride_w + b * g.dilation_w - g.pad_left, g.w, g.mode);
        if (row < 0 || column < 0) continue;
        const index channel = group * g.group_c() + c;
        sum += x[((n * g.c + channel) * g.h + row) * g.w + column] * w[((o * g.group_c() + c) * g.kh + a) * g.kw + b];
      }
  return sum;
}

std::optional<Plan> plan_if_it_fits(const Problem& p, const std::string& name) {
  try {
    return make_plan(p, name);
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

// As `scalar` in memory, and back.
template <class T> std::vector<char> stored(const IsaTable& isa, Scalar scalar, const std::vector<T>& values) {
  std::vector<char> memory(values.size() * static_cast<std::size_t>(scalar_bytes(scalar)));
  isa.rows.of<T>().store(scalar, memory.data(), 1, values.data(), std::ssize(values));
  return memory;
}
template <class T> std::vector<T> loaded(const IsaTable& isa, Scalar scalar, const std::vector<char>& memory) {
  std::vector<T> values(memory.size() / static_cast<std::size_t>(scalar_bytes(scalar)));
  isa.rows.of<T>().load(scalar, values.data(), memory.data(), 1, std::ssize(values));
  return values;
}

template <class T>
void test_plan(const IsaTable& isa, Scalar scalar, const Geometry& g, const std::string& name, Random& random) {
  const auto possible = plan_if_it_fits({g, scalar, 1, &isa, Precision::medium}, name);
  if (!possible) return;
  const Plan& plan = *possible;
  const index n = 2, k = g.group_c() * g.taps(), outputs = g.oh * g.ow;
  const auto x = random.small<T>(n * g.c * g.h * g.w), w = random.small<T>(g.oc * k), bias = random.small<T>(g.oc);
  const auto x_memory = stored(isa, scalar, x), w_memory = stored(isa, scalar, w);
  auto y_memory = stored(isa, scalar, std::vector<T>(n * g.oc * outputs));
  std::vector<T> packed(plan.packed_bytes / sizeof(T) + 64);
  const WeightView view{w_memory.data(), scalar, 1, g.group_oc() * k, k, g.taps(), g.kw, 1};
  plan.algorithm->driver.of<T>().pack(plan, view, packed.data());
  const ImageView image{x_memory.data(), scalar, 1, g.h, g.w, g.c * g.h * g.w, g.h * g.w, g.w, 1};
  const OutputView output{y_memory.data(), scalar, 1, g.oh, g.ow, g.oc * outputs, outputs, g.ow, 1};
  run<T>({plan, packed.data(), bias.data(), image, output, n});
  const auto y = loaded<T>(isa, scalar, y_memory);
  double error = 0, largest = 1;
  for (index at = 0; at < n * g.oc * outputs; at++) {
    const index o = at / outputs % g.oc;
    const T sum = exact<T>(g, x, w, bias[o], at / outputs / g.oc, o, at % outputs / g.ow, at % g.ow);
    const T e = loaded<T>(isa, scalar, stored(isa, scalar, std::vector<T>{sum}))[0];
    largest = std::max(largest, std::abs(static_cast<double>(e)));
    error = std::max(error, std::abs(static_cast<double>(e) - static_cast<double>(y[at])));
  }
  const bool transformed = plan.algorithm == &winograd::algorithm;
  const double allowed = transformed ? (scalar == plan.sums ? 1e-4 : 8e-3) * largest : 0;
  check(error <= allowed,
        std::string(isa.name) + " " + plan.name + " " + plan.layout + " error " + std::to_string(error));
}

index outputs_along(index size, index pads, index kernel, index stride, index dilation) {
  return (size + pads - dilation * (kernel - 1) - 1) / stride + 1;
}

Geometry random_geometry(Random& random) {
  for (;;) {
    Geometry g{};
    g.groups = random.below(4) == 0 ? 1 + random.below(4) : 1;
    g.c = g.groups * (1 + random.below(20)), g.oc = g.groups * (1 + random.below(40));
    if (random.below(5) == 0) g.c = g.oc = g.groups = 1 + random.below(9);
    if (random.below(40) == 0) g.oc = g.groups * (321 + random.below(50));  // panels enough to gather values for
    g.h = 1 + random.below(20), g.w = 1 + random.below(40);
    g.kh = 1 + random.below(5), g.kw = 1 + random.below(5);
    g.stride_h = 1 + random.below(3), g.stride_w = 1 + random.below(3);
    g.dilation_h = 1 + random.below(2), g.dilation_w = 1 + random.below(2);
    if (random.below(2)) g.stride_h = g.stride_w = g.dilation_h = g.dilation_w = 1;
    if (random.below(3) == 0) g.kh = g.kw = 3;
    if (random.below(5) == 0) g.kh = g.kw = 1;
    g.pad_top = random.below(3), g.pad_left = g.kh == 1 ? g.pad_top = 0 : random.below(3);
    g.oh = outputs_along(g.h, g.pad_top + random.below(2), g.kh, g.stride_h, g.dilation_h);
    g.ow = outputs_along(g.w, g.pad_left + (g.kw > 1), g.kw, g.stride_w, g.dilation_w);
    if (g.h > 3 && g.w > 3 && random.below(2)) g.mode = static_cast<PadMode>(random.below(4));  // pads are less than 4
    if (g.h >= g.kh * g.dilation_h && g.w >= g.kw * g.dilation_w && g.oh > 0 && g.ow > 0) return g;
  }
}

// Depthwise, of rows so long that the image is read where it lies, whatever the vectors.
Geometry long_rows(Random& random) {
  Geometry g{};
  g.c = g.oc = g.groups = 1 + random.below(3);
  g.h = 14 + random.below(24), g.w = 134 + random.below(140);
  g.kh = g.kw = 3, g.dilation_h = 1, g.dilation_w = 1 + random.below(2);
  g.stride_h = 1 + random.below(2), g.stride_w = random.below(4) ? g.stride_h : 1 + random.below(2);
  g.pad_top = random.below(3), g.pad_left = random.below(5);
  g.oh = outputs_along(g.h, g.pad_top + random.below(3), g.kh, g.stride_h, g.dilation_h);
  g.ow = outputs_along(g.w, g.pad_left + random.below(5), g.kw, g.stride_w, g.dilation_w);
  return g;
}

// What the busier of two threads gets of `count` in blocks of `size`, of which each has a share of neighbours.
index busier(index count, index size) {
  const index blocks = (count + size - 1) / size, half = blocks / 2 * size;
  return std::max(std::min(half, count), count - half);
}

void test_balanced() {
  Random random;
  for (int i = 0; i < 300; i++) {
    const index count = 1 + random.below(200), most = 1 + random.below(200), least = random.below(40);
    const std::string what = "blocks of " + std::to_string(count) + ", at most " + std::to_string(most);
    for (int threads : {1, 2, 3, 16}) {
      const index size = direct::balanced(count, most, 1 + random.below(9), threads, least);
      check(size >= 1 && size <= most, what);
    }
    const index size = direct::balanced(count, most, 1, 2, least), fewest = (count + most - 1) / most;
    for (index blocks = fewest; blocks <= 12 && blocks * least <= count; blocks++)
      check(19 * busier(count, size) <= 20 * busier(count, (count + blocks - 1) / blocks), what + ": uneven");
  }
  check(direct::balanced(80, 80, 1, 2, 32) == 40, "panels for two threads");
}

// Staged rows have room for whole vectors, and never lie where rows of 4 KiB would (sums are half as fast there).
void test_staged_axis() {
  Random random;
  for (index outputs = 1; outputs <= 1100; outputs++)
    for (index lanes : {2, 4, 8, 16}) {
      const StagedAxis axis(outputs, 1 + random.below(3), 1 + random.below(7), 1 + random.below(2), lanes);
      check(axis.cells() % (page_bytes / 8) && axis.pitch >= round_up(axis.length, lanes),
            "staged rows of " + std::to_string(outputs) + " outputs, " + std::to_string(lanes) + " lanes");
    }
}

template <class T> void test_isa(const IsaTable& isa, const std::vector<Scalar>& scalars, Scalar plain) {
  Random random;
  for (Scalar scalar : scalars) test_rows<T>(isa, scalar, random), test_blocks<T>(isa, scalar, random);
  test_output_lane<T>(isa, random);
  test_pixel_lane<T>(isa, random);
  test_pixel_tiles<T>(isa, random);
  test_moves<T>(isa, random);
  for (int i = 0; i < 150; i++) {
    const Geometry g = random_geometry(random);
    for (const char* name : {"", "pixel_lane", "output_lane", "depthwise", "channel_lane", "winograd"}) {
      test_plan<T>(isa, plain, g, name, random);
      if (isa.pairs && plain == Scalar::f32) test_plan<T>(isa, Scalar::bf16, g, name, random);
    }
  }
  for (int i = 0; i < 40; i++) test_plan<T>(isa, plain, long_rows(random), "depthwise", random);
}

}  // namespace
}  // namespace konv

int main() {
  using namespace konv;
  set_num_threads(2);
  for (const IsaTable* isa : available_isas()) {
    const int before = failures;
    test_isa<float>(*isa, {Scalar::f32, Scalar::f16, Scalar::bf16}, Scalar::f32);
    test_isa<double>(*isa, {Scalar::f64}, Scalar::f64);
    test_isa<konv::index>(*isa, {Scalar::i8, Scalar::i16, Scalar::i32, Scalar::i64, Scalar::u8}, Scalar::i64);
    std::printf("%-9s %s\n", isa->name, failures == before ? "good" : "FAILED");
  }
  if (!checks) std::printf("this CPU runs none of the instruction sets that were built\n");
  else test_balanced(), test_staged_axis();
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures || !checks ? 1 : 0;
}
