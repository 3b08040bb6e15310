// Staging of padded rows: see stage.hpp for the layouts.
#include "stage.hpp"

#include <algorithm>

namespace konv {

template <class T>
void RowStage<T>::stage(T* dst, index n, index c, const StagedAxis& down, const StagedColumns& across, index top,
                        index left) const {
  const bool plain = mode_ == PadMode::zeros && down.shared && across.shared && across.stride <= 2;
  if (plain && reader_.in_place(0, 0, 0)) return copy_rows(dst, n, c, down.cells, across, top, left);
  const index pitch = across.runs * across.pitch;
  for (index a = 0; a < down.runs(); a++)
    for (index run = 0; run < across.runs; run++)
      reader_.read_rows(dst + a * down.outputs * pitch + run * across.pitch, pitch, n, c, top + a * down.dilation,
                        down.source_step(), down.run_cells(), left + across.start(run), across.stride, across.length);
}

// The usual case: values of T in memory, zeros around them, stride 1 or 2, all in one call. Against the reader, a 3x3
// layer gains 10 to 20 % at stride 1 and 80 % at stride 2, where even and odd columns come from the same loads.
template <class T>
void RowStage<T>::copy_rows(T* dst, index n, index c, index rows, const StagedColumns& across, index top,
                            index left) const {
  const index total = across.runs * across.length, pitch = across.runs * across.pitch;
  const index first = std::clamp<index>(left, 0, x_.w), last = std::clamp<index>(left + total, first, x_.w);
  const index before = last > first ? first - left : total;
  const index row0 = std::clamp<index>(-top, 0, rows), row1 = std::clamp<index>(x_.h - top, row0, rows);
  const T* src = row1 > row0 ? reader_.in_place(n, c, top + row0) + first : nullptr;
  (across.runs == 1 ? table_.copy1 : table_.copy2)({dst, pitch, src, x_.sh, row0, row1 - row0, rows - row1, before,
                                                    last - first, total - before - (last - first), across.pitch});
}

template class RowStage<float>;
template class RowStage<double>;

}  // namespace konv
