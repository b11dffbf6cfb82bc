// Forward and backward of a layer of gates, bound by memory traffic.
//
// A warp walks along gates that share inputs (dense_plan.h). In the usual wiring, where every input has two gates, a
// row of x is read once and not twice in the forward pass; in the backward pass x and the gradient are read once and
// the gradient of x is written once, where a gather through the inverse index would read seven rows a gate. Nothing is
// added atomically: inputs with several stops get their sums from logic_backward's second kernel, in a fixed order.
#include "dense_backward.cuh"

namespace lgn::cuda {
namespace {

template <typename T, int V>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ x, int64_t x_pitch, const SumOf<T>* __restrict__ table,
                   const Visit* __restrict__ visits, int64_t count, int64_t batch, int chunk, int warps, int64_t tiles,
                   T* __restrict__ y, int64_t y_pitch) {
  using S = SumOf<T>;
  using Row = Samples<T, V>;
  const Walker walker(count, chunk, warps);
  if (walker.begin == walker.end) return;
  for (int64_t tile = walker.part; tile < tiles; tile += warps) {
    const int64_t at = first_sample(tile, walker.lane, V);
    if (at >= batch) continue;
    S previous[V] = {};
    if (load_visit(visits + walker.begin).gate >= 0) {
      Row::load(x + load_visit(visits + walker.begin - 1).input * x_pitch + at).unpack(previous);
    }
    for (int64_t p = walker.begin; p < walker.end; p += kUnroll) {
      Visit visit[kUnroll];
      Row row[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        visit[u] = p + u < walker.end ? load_visit(visits + p + u) : Visit{-1, -1, 0, 0};
      }
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        row[u] = visit[u].input >= 0 ? Row::load(x + visit[u].input * x_pitch + at) : Row::zero();
      }
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        S here[V];
        row[u].unpack(here);
        if (visit[u].gate >= 0) {
          S entries[4], out[V];
          load_table(table, visit[u].gate, entries);
          const Gate<S> gate = gate_of(entries, visit[u].swapped);
#pragma unroll
          for (int i = 0; i < V; i++) out[i] = evaluate(gate, previous[i], here[i]);
          Row::store(y + visit[u].gate * y_pitch + at, out);
        }
#pragma unroll
        for (int i = 0; i < V; i++) previous[i] = here[i];
      }
    }
  }
}

}  // namespace

void logic_forward(const LayerArgs& layer, void* y, int64_t y_pitch, cudaStream_t stream) {
  for_storage(layer.storage, layer.batch, [&](auto element, auto vec) {
    using T = decltype(element);
    constexpr int V = decltype(vec)::value;
    const Tiles tiles = tiles_of(layer.batch, V);
    const int chunk = chunk_of(layer.visit_count, tiles.warps);
    launch(&forward_kernel<T, V>, blocks_of(layer.visit_count, chunk, tiles.warps), stream,
           static_cast<const T*>(layer.x), layer.x_pitch, static_cast<const SumOf<T>*>(layer.table), layer.visits,
           layer.visit_count, layer.batch, chunk, tiles.warps, tiles.count, static_cast<T*>(y), y_pitch);
  });
}

void logic_backward(const LayerArgs& layer, const GradientArgs& gradient, cudaStream_t stream) {
  for_storage(layer.storage, layer.batch, [&](auto element, auto vec) {
    using T = decltype(element);
    constexpr int V = decltype(vec)::value;
    backward_on(RowInput<T, V>{static_cast<const T*>(layer.x), layer.x_pitch}, layer, gradient, stream);
  });
}

}  // namespace lgn::cuda
