// Padded planes of a block, split by the phases of the stride, so that tap (kh, kw) of every output of the block lies
// at one fixed distance from the output.
//
//   stride 2, 3x3:   a b a b a b        plane (0,0): a a a    plane (0,1): b b b      tap (kh, kw) is in plane
//                    c d c d c d                     a a a                 b b b      (kh % 2, kw % 2), moved by
//                    a b a b a b        plane (1,0): c c c    plane (1,1): d d d      (kh / 2, kw / 2)
//
// Phases that no tap reads are not stored. Taps of a dilation so large that their cells do not touch get planes of
// their own, so the size never grows with the dilation.
#pragma once
#include <vector>

#include "rows.hpp"

namespace konv {

// Which plane each tap of one axis reads, and how far into it.
struct PhaseAxis {
  struct Slot {
    index origin;  // padded coordinate of its first cell, for output 0
    index reach;   // cells past one for each output
  };
  std::vector<Slot> slots;
  std::vector<index> slot, shift;  // of each tap
  index reach = 0;                 // largest of the slots

  // `outputs`: of the largest block.
  PhaseAxis(index kernel, index stride, index dilation, index outputs) : slot(kernel), shift(kernel) {
    for (index t = 0; t < kernel; t++) {
      const index at = t * dilation;
      index s = static_cast<index>(slots.size()) - 1;
      const auto distance = [&](index i) { return at - slots[i].origin; };
      // A slot serves this tap if it has the same phase and the tap's cells touch those already there.
      while (s >= 0 && (distance(s) % stride != 0 || distance(s) / stride > slots[s].reach + outputs)) s--;
      if (s < 0) {
        s = static_cast<index>(slots.size());
        slots.push_back({at, 0});
      }
      slot[t] = s;
      shift[t] = distance(s) / stride;
      slots[s].reach = std::max(slots[s].reach, shift[t]);
      reach = std::max(reach, slots[s].reach);
    }
  }
  index count() const { return static_cast<index>(slots.size()); }
  // Cells that `outputs` outputs read, in all slots.
  index cells(index outputs) const {
    index total = 0;
    for (const Slot& s : slots) total += outputs + s.reach;
    return total;
  }
};

struct PhasePlanes {
  const Geometry& g;
  PhaseAxis down, across;
  index rows = 0, pitch = 0;

  PhasePlanes(const Geometry& g, index most_rows, index most_columns)
      : g(g), down(g.kh, g.stride_h, g.dilation_h, most_rows), across(g.kw, g.stride_w, g.dilation_w, most_columns) {}

  // Blocks of `block_rows` outputs down, planes of rows `row_pitch` apart.
  void lay_out(index block_rows, index row_pitch) { rows = block_rows, pitch = row_pitch; }

  index channel_size() const { return down.cells(rows) * across.count() * pitch; }
  index channel_size(index block_rows, index columns) const {
    return down.cells(block_rows) * across.count() * (columns + across.reach);
  }

  // From the place of an output, row*pitch + column, to the cell that the tap multiplies.
  void append_offsets(std::vector<index>& offsets, index base) const {
    std::vector<index> start;
    index at = 0;
    for (const auto& s : down.slots) {
      start.push_back(at);
      at += (rows + s.reach) * across.count() * pitch;
    }
    for (index i = 0; i < g.kh; i++)
      for (index j = 0; j < g.kw; j++) {
        const index plane = (rows + down.slots[down.slot[i]].reach) * pitch;
        offsets.push_back(base + start[down.slot[i]] + across.slot[j] * plane + down.shift[i] * pitch +
                          across.shift[j]);
      }
  }

  // The planes of one channel for the outputs [row, row + count_rows) x [column, column + columns).
  template <class T>
  void load(const RowReader<T>& reader, index n, index channel, index row, index count_rows, index column,
            index columns, T* dst) const {
    // Even and odd columns come from the same vectors.
    const auto& u = across.slots;
    const bool pairs = g.stride_w == 2 && u.size() == 2 && u[1].origin == 1 && u[0].reach - u[1].reach < 2;
    for (const auto& v : down.slots) {
      const index plane = (rows + v.reach) * pitch;
      const auto read = [&](index slot, index step, index count, index half) {
        reader.read_rows(dst, pitch, n, channel, row * g.stride_h + v.origin - g.pad_top, g.stride_h,
                         count_rows + v.reach, column * g.stride_w + u[slot].origin - g.pad_left, step, count, half);
        dst += half ? 2 * plane : plane;
      };
      if (pairs) read(0, 1, 2 * columns + u[0].reach + u[1].reach, plane);
      else
        for (index i = 0; i < across.count(); i++) read(i, g.stride_w, columns + u[i].reach, 0);
    }
  }
};

}  // namespace konv
