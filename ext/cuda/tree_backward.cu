// Gradients of trees of gates, recomputed at the winner of each window.
//
// Nothing is added atomically. A first kernel walks the trees as the forward pass does, keeps of each sample the leaves
// at its winning place, and writes the gradient of every leaf and, of each run of windows, the sums of the table's
// gradient. A second one lets every pixel gather the gradients of the leaves that read it; a third adds up the runs.
// The gradients of leaves are as large as n windows of float, so a wide batch goes through in slices.
#include <algorithm>

#include "tree.cuh"

namespace lgn::cuda {
namespace {

constexpr int kUnroll = 4;  // loads in flight before the first is used

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const TreeArgs args, int64_t windows, int64_t tiles, int64_t windows_a_run,
                    const SumOf<T>* __restrict__ slopes_table, const T* __restrict__ grad, int64_t grad_pitch,
                    const uint8_t* __restrict__ winner, int64_t winner_pitch, SumOf<T>* __restrict__ run_sums,
                    SumOf<T>* __restrict__ leaf_grads, int64_t leaf_pitch) {
  using S = SumOf<T>;
  constexpr int V = kTreeVec<T>, kLeaves = N > 0 ? N : kMaxLeaves;
  using Row = Samples<T, V>;
  __shared__ Gate<S> shared[2][kBlockWarps][kLeaves - 1];

  const TreeTask task(args, windows, tiles, windows_a_run);
  if (task.none) return;
  LeafRows<N> leaves(args, task.tree, task.lane);
  const int n = N > 0 ? N : leaves.leaves;
  Gate<S>*gates = shared[0][threadIdx.x / kWarp], *slopes = shared[1][threadIdx.x / kWarp];
  load_gates(static_cast<const S*>(args.table), task.tree, n - 1, task.lane, gates);
  load_gates(slopes_table, task.tree, n - 1, task.lane, slopes);
  __syncwarp();

  const T* x = static_cast<const T*>(args.x);
  const int64_t at = first_sample(task.tile, task.lane, V);
  const bool active = at < args.batch;
  const int32_t places = args.pool[0] * args.pool[1];
  TableSums<S> sums[kLeaves - 1];
  for (int64_t window = task.begin; window < task.end; window++) {
    const int64_t out_row = task.tree * windows + window;
    // Samples past the batch have no winner, so that their leaves and gradients stay 0 whatever the padding holds.
    int32_t where[V];
    S g[V] = {};
    if (active) {
      uint8_t wins[V] = {};
      if (winner != nullptr) load_bytes(winner + out_row * winner_pitch + at, wins);
      Row::load(grad + out_row * grad_pitch + at).unpack(g);
#pragma unroll
      for (int i = 0; i < V; i++) where[i] = wins[i];
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
      if (at + i >= args.batch) {
        where[i] = -1;
        g[i] = 0;
      }
    }
    Row chosen[kLeaves];
#pragma unroll
    for (int leaf = 0; leaf < n; leaf++) chosen[leaf] = Row::zero();
    for (int32_t first = 0; first < places; first += leaves.places()) {
      leaves.locate(args, static_cast<int32_t>(window), first);
#pragma unroll 1
      for (int k = 0; k < leaves.places() && first + k < places; k++) {
        bool here[V], any = false;
#pragma unroll
        for (int i = 0; i < V; i++) any |= here[i] = where[i] == first + k;
        const Row mask = Row::mask(here);
#pragma unroll
        for (int leaf = 0; leaf < n; leaf++) {
          const int32_t from = leaves.at(k, leaf);
          if (any && from >= 0) chosen[leaf].take(mask, Row::load(x + from * args.x_pitch + at));
        }
      }
    }
    S down[kLeaves][V];
#pragma unroll
    for (int i = 0; i < V; i++) {
      S node[2 * kLeaves - 1], node_grad[2 * kLeaves - 1];
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) node[leaf] = chosen[leaf].get(i);
      evaluate_tree(gates, n, node);
      node_grad[2 * n - 2] = g[i];
      differentiate_tree(slopes, n, node, node_grad, sums);
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) down[leaf][i] = node_grad[leaf];
    }
    if (active && leaf_grads != nullptr) {
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

// A warp has a pixel of a channel and a tile of samples. `Pooled`: windows have winners.
template <typename T, bool Pooled>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const TreeArgs args, int64_t tiles, const uint8_t* __restrict__ winner, int64_t winner_pitch,
                  const SumOf<T>* __restrict__ leaf_grads, int64_t leaf_pitch, const TreeUse* __restrict__ uses,
                  const int32_t* __restrict__ uses_begin, T* __restrict__ grad_x, int64_t grad_x_pitch) {
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
    uint8_t wins[kUnroll][V];
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
      if constexpr (Pooled) {
        place[u] = out_line % args.pool[0] * args.pool[1] + out_column % args.pool[1];
        load_bytes(winner + out_row * winner_pitch + at, wins[u]);
      }
    }
    Samples<S, V> grads[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      bool any = from[u] >= 0;
      if constexpr (Pooled) {
        bool won = false;
#pragma unroll
        for (int i = 0; i < V; i++) won |= wins[u][i] == place[u];
        any = any && won;
      }
      grads[u] = any ? Samples<S, V>::load(leaf_grads + from[u] * leaf_pitch + at) : Samples<S, V>::zero();
    }
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      if (from[u] < 0) continue;
      S part[V];
      grads[u].unpack(part);
#pragma unroll
      for (int i = 0; i < V; i++) {
        if (!Pooled || wins[u][i] == place[u]) sum[i] += part[i];
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

template <typename T, int N>
void backward(const TreeArgs& tree, const TreeGradientArgs& to, cudaStream_t stream) {
  using S = SumOf<T>;
  const TreeShare& share = to.share;
  const int64_t windows = windows_of(tree), runs_a_tile = ceil_div(windows, share.windows),
                gates = int64_t{tree.trees} * ((1 << tree.depth) - 1);
  const int64_t fours = (int64_t{tree.trees} << tree.depth) * ceil_div(to.choices.count, 4);
  auto *run_sums = static_cast<S*>(to.run_sums), *choice_sums = static_cast<S*>(to.choices.run_sums);
  for (int64_t first = 0; first < tree.batch; first += share.samples) {
    TreeArgs slice = tree;
    slice.batch = std::min(share.samples, tree.batch - first);
    slice.x = static_cast<const T*>(tree.x) + first;
    const uint8_t* winner = to.winner == nullptr ? nullptr : to.winner + first;
    const int64_t tiles = tree_tiles(tree.storage, slice.batch);
    launch(&backward_kernel<T, N>, tree_blocks(tree, tiles, share.windows), stream, slice, windows, tiles,
           share.windows, static_cast<const S*>(to.slopes), static_cast<const T*>(to.grad) + first, to.grad_pitch,
           winner, to.winner_pitch, run_sums, static_cast<S*>(to.leaf_grads), share.samples);
    run_sums += tiles * runs_a_tile * gates * 4;
    if (to.choices.candidates != nullptr) {
      tree_choices(slice, to.choices, winner, to.winner_pitch, share.windows, to.leaf_grads, share.samples, choice_sums,
                   stream);
      choice_sums += tiles * runs_a_tile * fours * 4;
    }
    if (to.grad_x == nullptr) continue;
    const auto gather = winner == nullptr ? &gather_kernel<T, false> : &gather_kernel<T, true>;
    launch(gather, ceil_div(int64_t{tree.channels} * tree.height * tree.width * tiles, kBlockWarps), stream, slice,
           tiles, winner, to.winner_pitch, static_cast<const S*>(to.leaf_grads), share.samples, to.uses, to.uses_begin,
           static_cast<T*>(to.grad_x) + first, to.grad_x_pitch);
  }
  launch(&finish_kernel<S>, ceil_div(gates, kBlockWarps), stream, static_cast<const S*>(to.run_sums), share.runs, gates,
         static_cast<S*>(to.grad_table));
  if (to.choices.candidates == nullptr) return;
  launch(&finish_kernel<S>, ceil_div(fours, kBlockWarps), stream, static_cast<const S*>(to.choices.run_sums),
         share.runs, fours, static_cast<S*>(to.choices.grad_shares));
}

}  // namespace

TreeShare tree_share(const TreeArgs& tree, int64_t leaf_bytes) {
  const int64_t tile = kWarp * (tree.storage == Storage::kF64 ? 2 : 4), tiles = tree_tiles(tree.storage, tree.batch),
                rows = tree.trees * windows_of(tree) << tree.depth,
                bytes = rows * tile * (tree.storage == Storage::kF64 ? 8 : 4);
  TreeShare share{};
  const int64_t slice = std::clamp<int64_t>(leaf_bytes / std::max<int64_t>(bytes, 1), 1, tiles);
  share.samples = slice * tile;
  share.windows = run_windows(tree, slice);
  share.runs = tiles * ceil_div(windows_of(tree), share.windows);
  return share;
}

void tree_backward(const TreeArgs& tree, const TreeGradientArgs& gradient, cudaStream_t stream) {
  for_tree(tree.storage, tree.depth, [&](auto element, auto leaves) {
    backward<decltype(element), decltype(leaves)::value>(tree, gradient, stream);
  });
}

}  // namespace lgn::cuda
