// Elementwise operations, a piece of a row at a time: axes that lie one behind the other in all arrays become one, so a
// contiguous array is a single long row.
#include "pointwise.hpp"

#include <algorithm>

#include "rows.hpp"

namespace konv {
namespace {

constexpr index piece_cells = 4096;

// Joins axes a-1 and a wherever every array steps over them alike.
void join_axes(std::vector<index>& shape, std::vector<Strided*> arrays) {
  for (std::size_t a = shape.size(); a-- > 1;) {
    bool joins = true;
    for (const Strided* s : arrays)
      joins &= shape[a] == 1 || shape[a - 1] == 1 || s->strides[a - 1] == s->strides[a] * shape[a];
    if (!joins) continue;
    for (Strided* s : arrays) {
      if (shape[a] == 1) s->strides[a] = s->strides[a - 1];
      s->strides.erase(s->strides.begin() + static_cast<std::ptrdiff_t>(a) - 1);
    }
    shape[a - 1] *= shape[a];
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(a));
  }
}

// body(y, inputs, count) on pieces in the compute type; y is contiguous and of the storage type of the first input.
template <class T, int Inputs, class F>
void each_piece(const IsaTable& isa, std::vector<index> shape, Strided (&inputs)[Inputs], void* output, F&& body) {
  if (shape.empty()) {
    shape.push_back(1);
    for (Strided& s : inputs) s.strides.push_back(1);
  }
  std::vector<Strided*> all;
  for (Strided& s : inputs) all.push_back(&s);
  join_axes(shape, all);
  const std::size_t last = shape.size() - 1;
  index rows = 1;
  for (std::size_t a = 0; a < last; a++) rows *= shape[a];
  const index columns = shape[last], in_row = ceil_div(columns, piece_cells);
  const auto store = isa.rows<T>().store[static_cast<int>(inputs[0].scalar)];
  const index out_bytes = scalar_bytes(inputs[0].scalar);
  const bool out_in_place = inputs[0].scalar == scalar_of<T>;
  const int slots = num_threads();
  const Workspace workspace(0, (Inputs + 1) * piece_cells * static_cast<index>(sizeof(T)), slots);

  parallel_ranges(rows * in_row, std::min(columns, piece_cells), slots, [&](index first, index end, int slot) {
    T* scratch = workspace.slot<T>(slot);
    for (index unit = first; unit < end; unit++) {
      const index row = unit / in_row, column = unit % in_row * piece_cells;
      const index count = std::min(piece_cells, columns - column);
      const T* sources[Inputs];
      for (int i = 0; i < Inputs; i++) {
        const Strided& s = inputs[i];
        index at = column * s.strides[last], rest = row;
        for (std::size_t a = last; a-- > 0; rest /= shape[a]) at += rest % shape[a] * s.strides[a];
        const char* place = static_cast<const char*>(s.data) + at * scalar_bytes(s.scalar);
        if (s.scalar == scalar_of<T> && s.strides[last] == 1) {
          sources[i] = reinterpret_cast<const T*>(place);
        } else {
          T* buffer = scratch + (i + 1) * piece_cells;
          isa.rows<T>().load[static_cast<int>(s.scalar)](buffer, place, s.strides[last], count);
          sources[i] = buffer;
        }
      }
      char* y = static_cast<char*>(output) + (row * columns + column) * out_bytes;
      T* target = out_in_place ? reinterpret_cast<T*>(y) : scratch;
      body(target, sources, count);
      if (!out_in_place) store(y, 1, scratch, count);
    }
  });
}

}  // namespace

template <class T>
void relu(const IsaTable& isa, const std::vector<index>& shape, const Strided& x, void* y) {
  Strided inputs[] = {x};
  const auto kernel = isa.layers.of<T>().relu;
  each_piece<T>(isa, shape, inputs, y, [&](T* out, const T* const* in, index n) { kernel(out, in[0], n); });
}

template <class T>
void relu_gradient(const IsaTable& isa, const std::vector<index>& shape, const Strided& g, const Strided& y, void* gx) {
  Strided inputs[] = {g, y};
  const auto kernel = isa.layers.of<T>().relu_gradient;
  each_piece<T>(isa, shape, inputs, gx, [&](T* out, const T* const* in, index n) { kernel(out, in[0], in[1], n); });
}

template void relu<float>(const IsaTable&, const std::vector<index>&, const Strided&, void*);
template void relu<double>(const IsaTable&, const std::vector<index>&, const Strided&, void*);
template void relu_gradient<float>(const IsaTable&, const std::vector<index>&, const Strided&, const Strided&, void*);
template void relu_gradient<double>(const IsaTable&, const std::vector<index>&, const Strided&, const Strided&, void*);

}  // namespace konv
