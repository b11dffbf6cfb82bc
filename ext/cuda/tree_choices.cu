// Learned leaves: the gradient of the shares of their candidates, from the gradients of leaves that the backward pass
// of the trees has left in memory.
//
// A warp sums four candidates of a leaf over a run of windows and a tile of samples; warps of a leaf are neighbours, so
// that its rows come from the cache. Sums of runs are added up afterwards, in a fixed order.
#include "tree.cuh"

namespace lgn::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kThreads)
    choices_kernel(const TreeArgs args, int32_t lines, int32_t columns, const int32_t* __restrict__ candidates,
                   int count, int fours, int64_t windows, int64_t tiles, int64_t windows_a_run, int64_t runs,
                   const uint8_t* __restrict__ winner, int64_t winner_pitch, const SumOf<T>* __restrict__ leaf_grads,
                   int64_t leaf_pitch, SumOf<T>* __restrict__ sums) {
  using S = SumOf<T>;
  constexpr int V = kTreeVec<T>;
  const int64_t warp = int64_t{blockIdx.x} * kBlockWarps + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, n = 1 << args.depth;
  const int first = static_cast<int>(warp % fours) * 4;
  const int64_t leaf = warp / fours % n, run = warp / fours / n % runs, tile = warp / fours / n / runs % tiles,
                tree = warp / fours / n / runs / tiles;
  if (tree >= args.trees) return;
  int32_t channel_row[4], line[4], column[4];
#pragma unroll
  for (int q = 0; q < 4; q++) {
    channel_row[q] = -1;
    if (first + q >= count) continue;
    const int32_t place = __ldg(candidates + (tree * n + leaf) * count + first + q), all = place / columns;
    channel_row[q] = all / lines * args.height * args.width;
    line[q] = all % lines;
    column[q] = place % columns;
  }
  const T* x = static_cast<const T*>(args.x);
  const int64_t at = first_sample(tile, lane, V);
  const int64_t begin = run * windows_a_run, end = begin + windows_a_run < windows ? begin + windows_a_run : windows;
  const int32_t places = args.pool[0] * args.pool[1];
  S sum[4] = {};
  for (int64_t window = begin; window < end && at < args.batch; window++) {
    const int64_t out_row = tree * windows + window;
    const auto window_line = static_cast<int32_t>(window / args.out_width),
               window_column = static_cast<int32_t>(window % args.out_width);
    S g[V];
    uint8_t wins[V] = {};
    Samples<S, V>::load(leaf_grads + (out_row * n + leaf) * leaf_pitch + at).unpack(g);
    if (winner != nullptr) load_bytes(winner + out_row * winner_pitch + at, wins);
    for (int32_t place = 0; place < places; place++) {
      bool here[V], any = false;
#pragma unroll
      for (int i = 0; i < V; i++) any |= here[i] = wins[i] == place && at + i < args.batch;
      if (!any) continue;
      const int32_t i = place / args.pool[1], j = place % args.pool[1];
      const int32_t top = (window_line * args.pool[0] + i) * args.stride[0] - args.padding[0],
                    left = (window_column * args.pool[1] + j) * args.stride[1] - args.padding[1];
#pragma unroll
      for (int q = 0; q < 4; q++) {
        const int32_t u = top + line[q], v = left + column[q];
        if (channel_row[q] < 0 || u < 0 || u >= args.height || v < 0 || v >= args.width) continue;
        S row[V];
        Samples<T, V>::load(x + int64_t{channel_row[q] + u * args.width + v} * args.x_pitch + at).unpack(row);
        // Padding may hold NaN.
#pragma unroll
        for (int k = 0; k < V; k++) sum[q] += here[k] ? g[k] * row[k] : S{0};
      }
    }
  }
  const S total = sum_four(sum, lane);
  S* to = sums + (((tile * runs + run) * args.trees + tree) * n + leaf) * fours * 4 + first;
  if (lane % 8 == 0) to[lane / 8] = total;
}

}  // namespace

void tree_choices(const TreeArgs& slice, const TreeChoiceArgs& of, const uint8_t* winner, int64_t winner_pitch,
                  int64_t windows_a_run, const void* leaf_grads, int64_t leaf_pitch, void* sums, cudaStream_t stream) {
  const int64_t windows = windows_of(slice), tiles = tree_tiles(slice.storage, slice.batch),
                runs = ceil_div(windows, windows_a_run);
  const int fours = static_cast<int>(ceil_div(of.count, 4));
  const auto run = [&](auto element) {
    using T = decltype(element);
    const int64_t warps = (slice.trees * runs * tiles << slice.depth) * fours;
    launch(&choices_kernel<T>, ceil_div(warps, kBlockWarps), stream, slice, of.kernel[0], of.kernel[1], of.candidates,
           static_cast<int>(of.count), fours, windows, tiles, windows_a_run, runs, winner, winner_pitch,
           static_cast<const SumOf<T>*>(leaf_grads), leaf_pitch, static_cast<SumOf<T>*>(sums));
  };
  switch (slice.storage) {
    case Storage::kF32:
      return run(float{});
    case Storage::kBF16:
      return run(BF16{});
    case Storage::kF16:
      return run(F16{});
    case Storage::kF64:
      return run(double{});
  }
}

}  // namespace lgn::cuda
