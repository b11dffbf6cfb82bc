// Group sums, of rows or of gates whose outputs are never stored, in two steps of fixed order.
#include "dense.h"
#include "device.cuh"

namespace lgn::cuda {
namespace {

constexpr int64_t kSliceRows = 64;
constexpr int64_t kMaxSlices = 128;

template <typename T, int V, bool Gates>
__global__ void __launch_bounds__(kThreads)
    slice_kernel(const T* __restrict__ x, int64_t x_pitch, const SumOf<T>* __restrict__ table,
                 const int32_t* __restrict__ a, const int32_t* __restrict__ b, int64_t batch, int64_t tiles,
                 int64_t group, int64_t slices, SumOf<T>* __restrict__ partials, int64_t partial_pitch) {
  using S = SumOf<T>;
  using Row = Samples<T, V>;
  constexpr int kStep = 16 / static_cast<int>(sizeof(S));
  __shared__ S shared[kBlockWarps][V][kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t tile = blockIdx.x % tiles, row = blockIdx.x / tiles;  // row = class · slices + slice
  const int64_t slice = row % slices, first = row / slices * group;
  const int64_t begin = first + slice * group / slices, end = first + (slice + 1) * group / slices;
  const int64_t at = first_sample(tile, lane, V);
  S sum[V] = {};
  if (at < batch) {
#pragma unroll 4
    for (int64_t g = begin + warp; g < end; g += kBlockWarps) {
      if constexpr (Gates) {
        S left[V], right[V], entries[4];
        Row::load(x + __ldg(a + g) * x_pitch + at).unpack(left);
        Row::load(x + __ldg(b + g) * x_pitch + at).unpack(right);
        load_table(table, static_cast<int32_t>(g), entries);
        const Gate<S> gate = gate_of(entries, false);
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] += evaluate(gate, left[i], right[i]);
      } else {
        S values[V];
        Row::load(x + g * x_pitch + at).unpack(values);
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] += values[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < V; i++) shared[warp][i][lane] = sum[i];
  __syncthreads();
  if (warp != 0 || at >= batch) return;
  for (int w = 1; w < kBlockWarps; w++) {
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] += shared[w][i][lane];
  }
  static_assert(V % kStep == 0);
  store_sums(partials + row * partial_pitch + at, sum, V);
}

// One block for 32 samples of a class: each warp adds its slices, the first warp adds the warps.
template <typename S>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const S* __restrict__ partials, int64_t partial_pitch, int64_t batch, int64_t classes, int64_t slices,
                  S tau, S* __restrict__ out) {
  __shared__ S shared[kBlockWarps][kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t c = blockIdx.x % classes, sample = blockIdx.x / classes * kWarp + lane;
  S sum = 0;
  if (sample < batch) {
#pragma unroll 4
    for (int64_t s = warp; s < slices; s += kBlockWarps) sum += partials[(c * slices + s) * partial_pitch + sample];
  }
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || sample >= batch) return;
  for (int w = 1; w < kBlockWarps; w++) sum += shared[w][lane];
  out[sample * classes + c] = sum / tau;
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    compact_kernel(const S* __restrict__ grad, int64_t sample_stride, int64_t class_stride, int64_t batch,
                   int64_t classes, S scale, S* __restrict__ out, int64_t pitch) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, c = i / batch, sample = i % batch;
  if (c < classes) out[c * pitch + sample] = grad[sample * sample_stride + c * class_stride] * scale;
}

}  // namespace

int64_t group_slices(int64_t group) {
  const int64_t slices = ceil_div(group, kSliceRows);
  return slices < 1 ? 1 : (slices < kMaxSlices ? slices : kMaxSlices);
}

void group_sum(const GroupArgs& args, cudaStream_t stream) {
  const int64_t slices = group_slices(args.group);
  for_storage(args.storage, args.batch, [&](auto element, auto vec) {
    using T = decltype(element);
    using S = SumOf<T>;
    constexpr int V = decltype(vec)::value;
    const int64_t tiles = tiles_of(args.batch, V).count;
    const auto kernel = args.table != nullptr ? &slice_kernel<T, V, true> : &slice_kernel<T, V, false>;
    launch(kernel, args.classes * slices * tiles, stream, static_cast<const T*>(args.x), args.x_pitch,
           static_cast<const S*>(args.table), args.a, args.b, args.batch, tiles, args.group, slices,
           static_cast<S*>(args.partials), args.partial_pitch);
    launch(&finish_kernel<S>, args.classes * ceil_div(args.batch, kWarp), stream, static_cast<const S*>(args.partials),
           args.partial_pitch, args.batch, args.classes, slices, static_cast<S>(args.tau), static_cast<S*>(args.out));
  });
}

void compact_gradient(Storage storage, const void* grad, int64_t sample_stride, int64_t class_stride, int64_t batch,
                      int64_t classes, double scale, void* out, int64_t pitch, cudaStream_t stream) {
  const int64_t blocks = ceil_div(batch * classes, kThreads);
  if (storage == Storage::kF64) {
    launch(&compact_kernel<double>, blocks, stream, static_cast<const double*>(grad), sample_stride, class_stride,
           batch, classes, scale, static_cast<double*>(out), pitch);
  } else {
    launch(&compact_kernel<float>, blocks, stream, static_cast<const float*>(grad), sample_stride, class_stride, batch,
           classes, static_cast<float>(scale), static_cast<float*>(out), pitch);
  }
}

}  // namespace lgn::cuda
