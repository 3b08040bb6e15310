// How outputs are cut into blocks, and how image cells lie in scratch, for kernels that walk them tap by tap.
#pragma once
#include <vector>
#include "rows.hpp"

namespace konv {

// Outputs: some rows and columns of some images.
struct Block { index n, images, row, rows, column, columns; };
struct Share : Block { index group, part; };  // of one group; of its panels the part-th share

// The cell of the padded image under the first tap of its first output, of some channels.
inline Corner corner_of(const Geometry& g, const Block& b, index c, index channels = 1, index distance = 0) {
  return {b.n, c, b.row * g.stride_h - g.pad_top, b.column * g.stride_w - g.pad_left, channels, distance};
}

// Outputs [output, output + outputs) along an axis, which see taps [tap, tap + taps).
struct Run { index output, outputs, tap, taps; };

// Those of all `n` images in blocks of one size, but for the last ones; neighbours in a row first.
struct Grid {
  Block all, most;
  index down, across, count;  // blocks

  Grid(const Geometry& g, index n, index images, index rows, index columns)
      : all{0, n, 0, g.oh, 0, g.ow}, most{0, images, 0, rows, 0, columns}, down(ceil_div(g.oh, rows)),
        across(ceil_div(g.ow, columns)), count(ceil_div(n, images) * down * across) {}

  Block at(index i) const {
    const index row = i / across, image = row / down;
    Block b = most;
    b.n = image * b.images, b.row = (row - image * down) * b.rows, b.column = (i - row * across) * b.columns;
    b.images = std::min(b.images, all.images - b.n);
    b.rows = std::min(b.rows, all.rows - b.row), b.columns = std::min(b.columns, all.columns - b.column);
    return b;
  }
};

// Along one axis. A block of n outputs at stride s under k taps of dilation d reads one range of neighbouring cells,
// split into the phases of the stride where vectors of neighbouring outputs are loaded; or, where the taps lie so far
// apart (or so close under the stride) that most of the range would not be used, one run a tap:
//     shared   phase p of P (1 or s): cells p, p+P, p+2P ..   output j, tap a -> run (a*d) % P, place (a*d + j*s)/P
//     apart    run a of k:            cells a*d, a*d+s ...     output j, tap a -> run a,         place j
// Either way scratch never grows with the dilation.
struct StagedAxis {
  index stride, dilation;
  bool shared;
  index runs, length;  // of cells
  index pitch;         // from one run to the next

  // lanes: vectors of outputs are loaded, each run has room for one past its end. whole: they pick a stride's cells.
  StagedAxis(index n, index stride, index taps, index dilation, index lanes = 0, bool whole = false)
      : stride(stride), dilation(dilation) {
    const index range = (n - 1) * stride + (taps - 1) * dilation + 1, phases = lanes && !whole && n > 1 ? stride : 1;
    shared = range <= n * taps;
    runs = shared ? phases : taps;
    length = shared ? ceil_div(range, phases) : n;
    pitch = lanes ? round_up(length, lanes) + lanes : length;
    if (runs * pitch % (page_bytes / 8) == 0) pitch += lanes;  // rows of pages would meet in L1 (half the speed)
  }
  index cells() const { return runs * pitch; }
  // In scratch: the first output under a tap, and from one output to the next.
  index offset(index tap) const { return shared ? tap * dilation % runs * pitch + tap * dilation / runs : tap * pitch; }
  index step() const { return shared ? stride / runs : 1; }
  // In the image: the first cell of a run, and from one cell to the next.
  index start(index run) const { return shared ? run : run * dilation; }
  index source_step() const { return shared ? runs : stride; }
};

// The cells that a block reads, from `corner` on.
template <class T>
void stage(const RowReader<T>& reader, T* dst, index pitch, const StagedAxis& down, const StagedAxis& across,
           const Corner& corner) {
  const bool pairs = across.shared && across.runs == 2;  // come from the same vectors
  RowBlock b{corner, down.length, across.length, down.source_step(), across.source_step()};
  if (pairs) b.count *= 2, b.step = 1, b.half = across.pitch;
  for (index i = 0; i < down.runs; i++)
    for (index j = 0; j < (pairs ? 1 : across.runs); j++) {
      b.row = corner.row + down.start(i), b.column = corner.column + across.start(j);
      reader.read_rows(dst + i * down.pitch * pitch + j * across.pitch, pitch, b);
    }
}

// Channels that lie at a large power of two meet in few sets of the caches and evict each other.
template <class T> bool channels_apart(index distance) { return !distance || distance * sizeof(T) % (page_bytes / 4); }

// The windows of a block of outputs, for tiles that read one value at a time: in the image, when it needs no padding,
// no conversion and no fetching by the reader (1.0 to 1.5), else staged as x[channel][image][row][column].
template <class T> class Windows {
 public:
  // The blocks of a grid under `kernel_rows` rows of the kernel. inside: who reads them leaves the padding out.
  Windows(const IsaTable& isa, const ImageView& x, const Geometry& g, const Grid& grid, index kernel_rows, bool inside)
      : x_(x), g_(g), reader_(isa, x, g.mode), down_(grid.most.rows, g.stride_h, kernel_rows, g.dilation_h),
        across_(grid.most.columns, g.stride_w, g.kw, g.dilation_w), in_place_(lies_in_place(grid.all.images, inside)) {
    const index pitch = across_.cells(), plane = down_.cells() * pitch, all = grid.most.images * plane;
    const index channel = channels_apart<T>(all) ? all : all + 64 / index{sizeof(T)};
    steps = {plane,          x.parts * channel, channel, down_.step() * pitch, down_.offset(1) * pitch,
             across_.step(), across_.offset(1)};
    const index h = x.sh, w = x.sw;
    if (in_place_) steps = {x.sn, x.sc, 1, g.stride_h * h, g.dilation_h * h, g.stride_w * w, g.dilation_w * w};
  }

  // T between neighbours: images, elements and parts of channels, outputs and taps of each axis.
  struct Steps {
    index image, element, part, row, tap_row, column, tap;
    index channel(index c, int parts) const { return c / parts * element + c % parts * part; }
  } steps;

  // Where those outputs of a block lie, from its first on, that are in a run of rows and one of columns, and which of
  // its outputs they are; returns their number.
  index places(const Block& b, const Run& h, const Run& w, Place* place) const {
    const index top = std::max(h.output - b.row, index{0}), left = std::max(w.output - b.column, index{0});
    const index bottom = std::min(h.output + h.outputs - b.row, b.rows);
    const index right = std::min(w.output + w.outputs - b.column, b.columns);
    index count = 0;
    for (index n = 0; n < b.images; n++)
      for (index r = top; r < bottom; r++)
        for (index q = left; q < right; q++)
          place[count++] = {n * steps.image + r * steps.row + q * steps.column, (n * b.rows + r) * b.columns + q};
    return count;
  }

  bool in_place() const { return in_place_; }
  // Scratch for one channel, in T.
  index channel_size() const { return in_place_ ? 0 : steps.part; }

  // The first cell of a block, under the kernel's rows from `kernel_row` on.
  const T* load(T* staged, const Block& b, index c, index channels, index kernel_row = 0) const {
    Corner at = corner_of(g_, b, c, channels, steps.part);
    at.row += kernel_row * g_.dilation_h;
    if (in_place_) return static_cast<const T*>(x_.cell(b.n, c, at.row, at.column));
    for (T* to = staged; at.n < b.n + b.images; at.n++, to += steps.image)
      stage(reader_, to, across_.cells(), down_, across_, at);
    return staged;
  }
 private:
  bool lies_in_place(index n, bool inside) const {
    inside |= g_.pad_top <= 0 && g_.rows_seen() - g_.pad_top <= g_.h && g_.pad_left <= 0 &&
              g_.columns_seen() - g_.pad_left <= g_.w;
    const bool parts = g_.stride_w > 1 && g_.stride_w != g_.kw;  // of lines
    const bool far = (parts || bytes_of(g_, x_.scalar, n) > cached_bytes) && x_.sc * sizeof(T) >= page_bytes;
    return inside && !far && x_.scalar == scalar_of<T> && (g_.group_c() <= 4 || channels_apart<T>(x_.sc));
  }

  const ImageView& x_;
  const Geometry& g_;
  const RowReader<T> reader_;
  const StagedAxis down_, across_;
  const bool in_place_;
};

// A block of output rows (and, in wide images, of columns) whose staged image fits L1 with room for the rows of the
// output beside it; `row_unit` rows of output are summed at a time, and a block holds whole units.
struct StagedBlock {
  static constexpr index bytes = 24 << 10, most_columns = 1024;

  index columns, rows;
  StagedAxis across, down;
  index size;                  // in scratch
  std::vector<index> offsets;  // of the kernel's columns

  // picks: vectors can pick every second cell of rows, every second row of which is summed.
  StagedBlock(const Geometry& g, index row_unit, index lanes, index scalar, bool picks = false)
      : columns(equal(g.ow, most_columns, lanes)), rows(0),
        across(columns, g.stride_w, g.kw, g.dilation_w, lanes,
               picks && g.stride_w == 2 && g.stride_h == 2 && g.kh > 1 && g.dilation_h == 1),
        down(1, g.stride_h, g.kh, g.dilation_h) {
    const index fit = bytes / scalar / across.cells(), most = (fit - (g.kh - 1)) / g.stride_h / row_unit * row_unit;
    rows = equal(g.oh, std::max(most, row_unit), row_unit);
    down = StagedAxis(rows, g.stride_h, g.kh, g.dilation_h);
    size = round_up(down.cells() * across.cells() + lanes, 16);
    for (index b = 0; b < g.kw; b++) offsets.push_back(across.offset(b));
  }
 private:
  // `total` cut into equal blocks of at most `most`, each a multiple of `unit` but the last.
  static index equal(index total, index most, index unit) {
    return std::min(total, round_up(ceil_div(total, ceil_div(total, most)), unit));
  }
};
}  // namespace konv
