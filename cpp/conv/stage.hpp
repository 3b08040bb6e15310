// How a block of image cells is laid out in scratch, along one axis, for kernels that walk it tap by tap.
//
// A block of n outputs at stride s under k taps of dilation d reads either one run of neighbouring cells, or, where the
// taps lie so far apart (or so close under the stride) that most of the run would not be used, one run a tap:
//
//     shared   cells 0 .. (n-1)*s + (k-1)*d            output j, tap a  ->  j*s + a*d
//     apart    k runs of n cells                       output j, tap a  ->  a*n + j
//
// Either way scratch never grows with the dilation.
#pragma once
#include "rows.hpp"

namespace konv {

struct StagedAxis {
  index outputs, stride, dilation;
  bool shared;
  index cells;  // staged cells
  index step;   // staged cells between neighbouring outputs
  index tap;    // staged cells between neighbouring taps

  StagedAxis(index n, index stride, index taps, index dilation) : outputs(n), stride(stride), dilation(dilation) {
    const index run = (n - 1) * stride + (taps - 1) * dilation + 1;
    shared = run <= n * taps;
    cells = shared ? run : n * taps;
    step = shared ? stride : 1;
    tap = shared ? dilation : n;
  }
  // Runs of cells that are `source_step` apart in the image; run a starts at cell a*dilation.
  index runs() const { return cells / run_cells(); }
  index run_cells() const { return shared ? cells : outputs; }
  index source_step() const { return shared ? 1 : stride; }
};

// The same along a row for kernels that load vectors of neighbouring outputs: the run is split into its `stride`
// phases,
//
//     shared   phase p: cells p, p+s, p+2s ...         output j, tap b  ->  run (b*d) % s, place (b*d)/s + j
//     apart    run b:   cells b*d, b*d+s ...           output j, tap b  ->  run b,         place j
struct StagedColumns {
  index stride, dilation;
  bool shared;
  index runs, length;  // `length` cells of each run are used
  index pitch;         // from one run to the next, room for a vector past the end included

  StagedColumns(index n, index stride, index taps, index dilation, index lanes) : stride(stride), dilation(dilation) {
    const index all = (n - 1) * stride + (taps - 1) * dilation + 1;
    shared = (taps > 1 || stride == 1) && all <= 2 * n * taps;
    runs = shared ? stride : taps;
    length = shared ? ceil_div(all, stride) : n;
    pitch = round_up(length, lanes) + lanes;
  }
  index start(index run) const { return shared ? run : run * dilation; }
  index offset(index tap) const {
    return shared ? tap * dilation % stride * pitch + tap * dilation / stride : tap * pitch;
  }
};

// A block of output rows (and, in wide images, of columns) whose staged image fits L1 with room for the rows of the
// output beside it; `row_unit` rows of output are summed at a time, and a block holds whole units.
struct StagedBlock {
  index columns, rows;
  StagedColumns across;
  StagedAxis down;

  StagedBlock(const Geometry& g, index row_unit, index lanes, index bytes)
      : columns(equal(g.ow, most_columns, lanes)),
        rows(0),
        across(columns, g.stride_w, g.kw, g.dilation_w, lanes),
        down(1, g.stride_h, g.kh, g.dilation_h) {
    const index fit = stage_bytes / bytes / pitch(), most = (fit - (g.kh - 1)) / g.stride_h / row_unit * row_unit;
    rows = equal(g.oh, most < row_unit ? row_unit : most, row_unit);
    down = StagedAxis(rows, g.stride_h, g.kh, g.dilation_h);
  }
  index pitch() const { return across.runs * across.pitch; }

  static constexpr index stage_bytes = 24 << 10;
  static constexpr index most_columns = 1024;

 private:
  // `total` cut into equal blocks of at most `most`, each a multiple of `unit` but the last.
  static index equal(index total, index most, index unit) {
    const index each = round_up(ceil_div(total, ceil_div(total, most)), unit);
    return each < total ? each : total;
  }
};

// Padded rows of an image channel for tiles with pixels in the lanes:
//   dst[r*pitch + run*across.pitch + j] = image (n, c) at (top + down.source(r), left + across.start(run) + j*stride)
// with pitch = across.runs * across.pitch.
template <class T>
class RowStage {
 public:
  RowStage(const IsaTable& isa, const ImageView& x, PadMode mode)
      : table_(isa.depthwise<T>()), x_(x), mode_(mode), reader_(isa, x, mode) {}
  void stage(T* dst, index n, index c, const StagedAxis& down, const StagedColumns& across, index top,
             index left) const;

 private:
  void copy_rows(T* dst, index n, index c, index rows, const StagedColumns& across, index top, index left) const;

  const DepthwiseTable<T>& table_;
  ImageView x_;
  PadMode mode_;
  RowReader<T> reader_;
};

}  // namespace konv
