// Trees of gates at all places of an image, and the maximum of each window, in one pass: nothing else is stored.
#include "tree.cuh"

namespace lgn::cuda {
namespace {

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const TreeArgs args, int64_t windows, int64_t tiles, int64_t windows_a_run, T* __restrict__ y,
                   int64_t y_pitch, uint8_t* __restrict__ winner, int64_t winner_pitch) {
  using S = SumOf<T>;
  constexpr int V = kTreeVec<T>, kLeaves = N > 0 ? N : kMaxLeaves;
  using Row = Samples<T, V>;
  __shared__ Gate<S> shared[kBlockWarps][kLeaves - 1];

  const TreeTask task(args, windows, tiles, windows_a_run);
  if (task.none) return;
  LeafRows<N> leaves(args, task.tree, task.lane);
  const int n = N > 0 ? N : leaves.leaves;
  Gate<S>* gates = shared[threadIdx.x / kWarp];
  load_gates(static_cast<const S*>(args.table), task.tree, n - 1, task.lane, gates);
  __syncwarp();

  const T* x = static_cast<const T*>(args.x);
  const int64_t at = first_sample(task.tile, task.lane, V);
  const bool active = at < args.batch;
  const int32_t places = args.pool[0] * args.pool[1];
  for (int64_t window = task.begin; window < task.end; window++) {
    S best[V];
    uint8_t where[V] = {};
    for (int32_t first = 0; first < places; first += leaves.places()) {
      leaves.locate(args, static_cast<int32_t>(window), first);
#pragma unroll 1
      for (int k = 0; k < leaves.places() && first + k < places; k++) {
        Row row[kLeaves];
#pragma unroll
        for (int leaf = 0; leaf < n; leaf++) {
          const int32_t from = leaves.at(k, leaf);
          row[leaf] = active && from >= 0 ? Row::load(x + from * args.x_pitch + at) : Row::zero();
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
          S node[2 * kLeaves - 1];
#pragma unroll
          for (int leaf = 0; leaf < n; leaf++) node[leaf] = row[leaf].get(i);
          evaluate_tree(gates, n, node);
          const S root = node[2 * n - 2];
          const bool better = first + k == 0 || root > best[i];
          best[i] = better ? root : best[i];
          where[i] = better ? static_cast<uint8_t>(first + k) : where[i];
        }
      }
    }
    if (!active) continue;
    const int64_t row = task.tree * windows + window;
    Row::store(y + row * y_pitch + at, best);
    if (places > 1) store_bytes(winner + row * winner_pitch + at, where);
  }
}

}  // namespace

void tree_forward(const TreeArgs& tree, void* y, int64_t y_pitch, uint8_t* winner, int64_t winner_pitch,
                  cudaStream_t stream) {
  const int64_t tiles = tree_tiles(tree.storage, tree.batch), windows_a_run = run_windows(tree, tiles);
  for_tree(tree.storage, tree.depth, [&](auto element, auto leaves) {
    using T = decltype(element);
    launch(&forward_kernel<T, decltype(leaves)::value>, tree_blocks(tree, tiles, windows_a_run), stream, tree,
           windows_of(tree), tiles, windows_a_run, static_cast<T*>(y), y_pitch, winner, winner_pitch);
  });
}

}  // namespace lgn::cuda
