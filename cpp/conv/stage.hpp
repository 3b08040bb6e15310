// How a block of image cells is laid out in scratch, for kernels that walk it tap by tap.
#pragma once
#include <vector>

#include "rows.hpp"

namespace konv {

// Along one axis. A block of n outputs at stride s under k taps of dilation d reads one range of neighbouring cells,
// split into the phases of the stride where vectors of neighbouring outputs are loaded; or, where the taps lie so far
// apart (or so close under the stride) that most of the range would not be used, one run a tap:
//
//     shared   phase p of P (1 or s): cells p, p+P, p+2P ...   output j, tap a  ->  run (a*d) % P, place (a*d)/P +
//     j*s/P apart    run a of k:            cells a*d, a*d+s ...     output j, tap a  ->  run a,         place j
//
// Either way scratch never grows with the dilation.
struct StagedAxis {
  index stride, dilation;
  bool shared;
  index runs, length;  // of cells
  index pitch;         // from one run to the next

  // lanes: of the vectors of outputs, for which each run has room past its end; 0: outputs are read one by one.
  StagedAxis(index n, index stride, index taps, index dilation, index lanes = 0) : stride(stride), dilation(dilation) {
    const index range = (n - 1) * stride + (taps - 1) * dilation + 1, phases = lanes ? stride : 1;
    shared = range <= n * taps;
    runs = shared ? phases : taps;
    length = shared ? ceil_div(range, phases) : n;
    pitch = lanes ? round_up(length, lanes) + lanes : length;
  }
  index cells() const { return runs * pitch; }
  // In scratch: the first output under a tap, and from one output to the next.
  index offset(index tap) const { return shared ? tap * dilation % runs * pitch + tap * dilation / runs : tap * pitch; }
  index step() const { return shared ? stride / runs : 1; }
  // In the image: the first cell of a run, and from one cell to the next.
  index start(index run) const { return shared ? run : run * dilation; }
  index source_step() const { return shared ? runs : stride; }
};

// The cells of one channel from (top, left) on, by rows of across.cells().
template <class T>
void stage(const RowReader<T>& reader, T* dst, index n, index c, const StagedAxis& down, const StagedAxis& across,
           index top, index left) {
  const bool pairs = across.shared && across.runs == 2;
  for (index i = 0; i < down.runs; i++)
    for (index j = 0; j < (pairs ? 1 : across.runs); j++)
      reader.read_rows(dst + i * down.pitch * across.cells() + j * across.pitch, across.cells(), n, c,
                       top + down.start(i), down.source_step(), down.length, left + across.start(j),
                       pairs ? 1 : across.source_step(), pairs ? 2 * across.length : across.length,
                       pairs ? across.pitch : 0);
}

// A block of output rows (and, in wide images, of columns) whose staged image fits L1 with room for the rows of the
// output beside it; `row_unit` rows of output are summed at a time, and a block holds whole units.
struct StagedBlock {
  static constexpr index bytes = 24 << 10, most_columns = 1024;

  index columns, rows;
  StagedAxis across, down;
  index size;                  // in scratch
  std::vector<index> offsets;  // of the kernel's columns

  StagedBlock(const Geometry& g, index row_unit, index lanes, index scalar)
      : columns(equal(g.ow, most_columns, lanes)),
        rows(0),
        across(columns, g.stride_w, g.kw, g.dilation_w, lanes),
        down(1, g.stride_h, g.kh, g.dilation_h) {
    const index fit = bytes / scalar / across.cells(), most = (fit - (g.kh - 1)) / g.stride_h / row_unit * row_unit;
    rows = equal(g.oh, most < row_unit ? row_unit : most, row_unit);
    down = StagedAxis(rows, g.stride_h, g.kh, g.dilation_h);
    size = round_up(down.cells() * across.cells() + lanes, 16);
    for (index b = 0; b < g.kw; b++) offsets.push_back(across.offset(b));
  }

 private:
  // `total` cut into equal blocks of at most `most`, each a multiple of `unit` but the last.
  static index equal(index total, index most, index unit) {
    const index each = round_up(ceil_div(total, ceil_div(total, most)), unit);
    return each < total ? each : total;
  }
};

}  // namespace konv
