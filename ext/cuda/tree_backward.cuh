// Gradients of trees of gates, recomputed at the winner of each window, on rows of samples or packed bits.
//
// Nothing is added atomically. A first kernel walks the trees as the forward pass does, keeps of each sample the leaves
// at its winning place, and writes the gradient of every leaf and, of each run of windows, the sums of the table's
// gradient. A second one lets every pixel gather the gradients of the leaves that read it; a third adds up the runs.
// The gradients of leaves are as large as n windows of float, so a wide batch goes through in slices.
#pragma once

#include <algorithm>

#include "tree.cuh"

namespace lgn::cuda {
namespace {

constexpr int kUnroll = 4;  // loads in flight before the first is used

// Bit i is set if sample `at` + i belongs to the batch.
__device__ __forceinline__ uint32_t samples_of_batch(int64_t at, int64_t batch, int count) {
  const int64_t left = batch - at;
  return left <= 0 ? 0u : (1u << (left < count ? static_cast<int>(left) : count)) - 1;
}

// Input says what the leaves read and who won: an Element type, of its gradients too; Gates and their `load_gates`;
// `Trees`, which collect the leaves of a lane's samples; `winners`; and `from`, the input from a sample on.
template <typename Input, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const Input input, const TreeArgs args, int64_t windows, int64_t tiles, int64_t windows_a_run,
                    const SumOf<typename Input::Element>* __restrict__ slopes_table,
                    const typename Input::Element* __restrict__ grad, int64_t grad_pitch,
                    SumOf<typename Input::Element>* __restrict__ run_sums,
                    SumOf<typename Input::Element>* __restrict__ leaf_grads, int64_t leaf_pitch) {
  using T = typename Input::Element;
  using S = SumOf<T>;
  constexpr int V = kTreeVec<T>, kLeaves = N > 0 ? N : kMaxLeaves;
  __shared__ typename Input::Gates shared_gates[kBlockWarps][kLeaves - 1];
  __shared__ Gate<S> shared_slopes[kBlockWarps][kLeaves - 1];

  const TreeTask task(args, windows, tiles, windows_a_run);
  if (task.none) return;
  LeafRows<N> leaves(args, task.tree, task.lane);
  const int n = N > 0 ? N : leaves.leaves;
  typename Input::Gates* gates = shared_gates[threadIdx.x / kWarp];
  Gate<S>* slopes = shared_slopes[threadIdx.x / kWarp];
  input.load_gates(task.tree, n - 1, task.lane, gates);
  load_gates(slopes_table, task.tree, n - 1, task.lane, slopes);
  __syncwarp();

  const int64_t at = first_sample(task.tile, task.lane, V);
  const uint32_t live = samples_of_batch(at, args.batch, V);
  const int32_t places = args.pool[0] * args.pool[1];
  TableSums<S> sums[kLeaves - 1];
  for (int64_t window = task.begin; window < task.end; window++) {
    const int64_t out_row = task.tree * windows + window;
    S g[V] = {};
    typename Input::Winners::Loaded winner{};
    if (live != 0) {
      winner = input.winners.load(out_row, at);
      Samples<T, V>::load(grad + out_row * grad_pitch + at).unpack(g);
    }
    // Samples past the batch win nowhere, so that their leaves and gradients stay 0 whatever the padding holds.
#pragma unroll
    for (int i = 0; i < V; i++) g[i] = live >> i & 1 ? g[i] : S{0};
    typename Input::template Trees<kLeaves> trees;
    trees.clear(n);
    for (int32_t first = 0; first < places; first += leaves.places()) {
      leaves.locate(args, static_cast<int32_t>(window), first);
#pragma unroll 1
      for (int k = 0; k < leaves.places() && first + k < places; k++) {
        const uint32_t here = live & winner.at(first + k);
#pragma unroll
        for (int leaf = 0; leaf < n; leaf++) {
          const int32_t from = leaves.at(k, leaf);
          if (here != 0 && from >= 0) trees.take(leaf, here, input, from, at);
        }
      }
    }
    trees.evaluate(gates, n);
    S down[kLeaves][V];
#pragma unroll
    for (int i = 0; i < V; i++) {
      S node[2 * kLeaves - 1], node_grad[2 * kLeaves - 1];
      trees.nodes(gates, n, i, node);
      node_grad[2 * n - 2] = g[i];
      differentiate_tree(slopes, n, node, node_grad, sums);
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) down[leaf][i] = node_grad[leaf];
    }
    if (live != 0 && leaf_grads != nullptr) {
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) {
        store_sums(leaf_grads + (out_row * n + leaf) * leaf_pitch + at, down[leaf], V);
      }
    }
  }
  const int64_t runs = ceil_div(windows, windows_a_run);
  S* to = run_sums + ((task.tile * runs + task.run) * args.trees + task.tree) * (n - 1) * 4;
#pragma unroll
  for (int j = 0; j < n - 1; j++) {
    S entries[4];
    sums[j].entries(false, entries);
    const S sum = sum_four(entries, task.lane);
    if (task.lane % 8 == 0) to[j * 4 + task.lane / 8] = sum;
  }
}

// A warp has a pixel of a channel and a tile of samples.
template <typename T, typename Winners>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const TreeArgs args, int64_t tiles, const Winners winners, const SumOf<T>* __restrict__ leaf_grads,
                  int64_t leaf_pitch, const TreeUse* __restrict__ uses, const int32_t* __restrict__ uses_begin,
                  T* __restrict__ grad_x, int64_t grad_x_pitch) {
  using S = SumOf<T>;
  constexpr int V = kTreeVec<T>;
  const int64_t warp = int64_t{blockIdx.x} * kBlockWarps + threadIdx.x / kWarp;
  const int64_t tile = warp % tiles, row = warp / tiles;
  const int32_t pixels = args.height * args.width;
  if (row >= int64_t{args.channels} * pixels) return;
  const int64_t at = first_sample(tile, static_cast<int>(threadIdx.x) % kWarp, V);
  if (at >= args.batch) return;
  const auto channel = static_cast<int32_t>(row / pixels), pixel = static_cast<int32_t>(row % pixels);
  const int32_t y = pixel / args.width + args.padding[0], x = pixel % args.width + args.padding[1];
  const int32_t last = __ldg(uses_begin + channel + 1);
  const int n = 1 << args.depth;
  S sum[V] = {};
  for (int32_t use = __ldg(uses_begin + channel); use < last; use += kUnroll) {
    int64_t from[kUnroll];  // row of the leaf's gradients; -1 where the leaf does not read this pixel
    int32_t place[kUnroll];
    typename Winners::Loaded winner[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      from[u] = -1;
      if (use + u >= last) continue;
      const TreeUse leaf = load_use(uses + use + u);
      const int32_t line = y - leaf.line, column = x - leaf.column;
      if (line < 0 || column < 0 || line % args.stride[0] != 0 || column % args.stride[1] != 0) continue;
      const int32_t out_line = line / args.stride[0], out_column = column / args.stride[1];
      const int32_t window_line = out_line / args.pool[0], window_column = out_column / args.pool[1];
      if (window_line >= args.out_height || window_column >= args.out_width) continue;
      const int64_t out_row = (int64_t{leaf.tree} * args.out_height + window_line) * args.out_width + window_column;
      from[u] = out_row * n + leaf.leaf;
      place[u] = out_line % args.pool[0] * args.pool[1] + out_column % args.pool[1];
      winner[u] = winners.load(out_row, at);
    }
    uint32_t won[kUnroll];
    Samples<S, V> grads[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      won[u] = from[u] >= 0 ? winner[u].at(place[u]) : 0;
      grads[u] = won[u] != 0 ? Samples<S, V>::load(leaf_grads + from[u] * leaf_pitch + at) : Samples<S, V>::zero();
    }
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      S part[V];
      grads[u].unpack(part);
#pragma unroll
      for (int i = 0; i < V; i++) {
        if (won[u] >> i & 1) sum[i] += part[i];
      }
    }
  }
  Samples<T, V>::store(grad_x + row * grad_x_pitch + at, sum);
}

// A warp adds up the runs of a gate, or of four candidates: lane l has entry l % 4 of every eighth run.
template <typename S>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const S* __restrict__ run_sums, int64_t runs, int64_t gates, S* __restrict__ grad_table) {
  const int64_t gate = int64_t{blockIdx.x} * kBlockWarps + threadIdx.x / kWarp;
  if (gate >= gates) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  S sum = 0;
#pragma unroll 4
  for (int64_t run = lane / 4; run < runs; run += kWarp / 4) sum += run_sums[(run * gates + gate) * 4 + lane % 4];
#pragma unroll
  for (int step = kWarp / 2; step >= 4; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane < 4) grad_table[gate * 4 + lane] = sum;
}
template <typename S>
void finish(const void* run_sums, int64_t runs, int64_t gates, void* sums, cudaStream_t stream) {
  launch(&finish_kernel<S>, ceil_div(gates, kBlockWarps), stream, static_cast<const S*>(run_sums), runs, gates,
         static_cast<S*>(sums));
}

// Calls each_slice(slice, input of the slice, tiles) while the gradients of the slice's leaves are in memory.
template <int N, typename Input, typename EachSlice>
void backward_on(const Input& input, const TreeArgs& tree, const TreeGradientArgs& to, cudaStream_t stream,
                 const EachSlice& each_slice) {
  using T = typename Input::Element;
  using S = SumOf<T>;
  const TreeShare& share = to.share;
  const int64_t windows = windows_of(tree), runs_a_tile = ceil_div(windows, share.windows),
                gates = int64_t{tree.trees} * ((1 << tree.depth) - 1);
  auto *run_sums = static_cast<S*>(to.run_sums), *leaf_grads = static_cast<S*>(to.leaf_grads);
  for (int64_t first = 0; first < tree.batch; first += share.samples) {
    const Input part = input.from(first);
    TreeArgs slice = tree;
    slice.batch = std::min(share.samples, tree.batch - first);
    const int64_t tiles = tree_tiles(tree.storage, slice.batch);
    launch(&backward_kernel<Input, N>, tree_blocks(tree, tiles, share.windows), stream, part, slice, windows, tiles,
           share.windows, static_cast<const S*>(to.slopes), static_cast<const T*>(to.grad) + first, to.grad_pitch,
           run_sums, leaf_grads, share.samples);
    run_sums += tiles * runs_a_tile * gates * 4;
    each_slice(slice, part, tiles);
    if (to.grad_x == nullptr) continue;
    launch(&gather_kernel<T, typename Input::Winners>,
           ceil_div(int64_t{tree.channels} * tree.height * tree.width * tiles, kBlockWarps), stream, slice, tiles,
           part.winners, leaf_grads, share.samples, to.uses, to.uses_begin, static_cast<T*>(to.grad_x) + first,
           to.grad_x_pitch);
  }
  finish<S>(to.run_sums, share.runs, gates, to.grad_table, stream);
}

}  // namespace
}  // namespace lgn::cuda
