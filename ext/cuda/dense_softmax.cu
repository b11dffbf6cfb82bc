// Softmax over a gate's 16 logits, collapsed to its table of four, and back. Four threads a gate, all loads coalesced.
#include "dense.h"
#include "device.cuh"

namespace lgn::cuda {
namespace {

template <typename S>
__device__ __forceinline__ S exponential(S x) {
  if constexpr (std::is_same_v<S, double>) {
    return exp(x);
  } else {
    return expf(x);
  }
}

template <typename S>
__device__ __forceinline__ void load_four(const S* p, S (&out)[4]) {
  load_table(p, 0, out);
}

template <typename S>
__device__ __forceinline__ S sum_quad(S value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}

// Replaces this thread's four logits by probabilities.
template <typename S>
__device__ __forceinline__ void softmax(S (&p)[4]) {
  S top = p[0];
#pragma unroll
  for (int i = 1; i < 4; i++) top = p[i] > top ? p[i] : top;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const S other = __shfl_xor_sync(kAllLanes, top, step);
    top = other > top ? other : top;
  }
  S sum = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) sum += p[i] = exponential(p[i] - top);
  const S scale = S{1} / sum_quad(sum);
#pragma unroll
  for (int i = 0; i < 4; i++) p[i] *= scale;
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    table_kernel(const S* __restrict__ logits, int64_t gates, S* __restrict__ table) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const bool active = thread < gates * 4;
  const int q = static_cast<int>(threadIdx.x) % 4;
  S p[4] = {}, entry[4];
  if (active) load_four(logits + thread * 4, p);
  softmax(p);
  table_share(p, q, entry);
#pragma unroll
  for (int e = 0; e < 4; e++) entry[e] = sum_quad(entry[e]);
  const S mine = q & 2 ? (q & 1 ? entry[3] : entry[2]) : (q & 1 ? entry[1] : entry[0]);
  if (active) table[thread] = mine;
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    table_backward_kernel(const S* __restrict__ grad, const S* __restrict__ logits, int64_t gates,
                          S* __restrict__ out) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const bool active = thread < gates * 4;
  const int q = static_cast<int>(threadIdx.x) % 4;
  S p[4] = {}, upper[4] = {}, entry[4], result[4];
  if (active) {
    load_four(logits + thread * 4, p);
    load_four(grad + thread / 4 * 4, upper);
  }
  softmax(p);
  table_share(p, q, entry);
  S mean = 0;
#pragma unroll
  for (int e = 0; e < 4; e++) mean += entry[e] * upper[e];
  logit_gradients(p, q, upper, sum_quad(mean), result);
  if (active) store_sums(out + thread * 4, result, 4);
}

}  // namespace

void softmax_table(bool wide, const void* logits, int64_t gates, void* table, cudaStream_t stream) {
  const int64_t blocks = ceil_div(gates * 4, kThreads);
  if (wide) {
    launch(&table_kernel<double>, blocks, stream, static_cast<const double*>(logits), gates,
           static_cast<double*>(table));
  } else {
    launch(&table_kernel<float>, blocks, stream, static_cast<const float*>(logits), gates, static_cast<float*>(table));
  }
}

void softmax_table_backward(bool wide, const void* grad, const void* logits, int64_t gates, void* out,
                            cudaStream_t stream) {
  const int64_t blocks = ceil_div(gates * 4, kThreads);
  if (wide) {
    launch(&table_backward_kernel<double>, blocks, stream, static_cast<const double*>(grad),
           static_cast<const double*>(logits), gates, static_cast<double*>(out));
  } else {
    launch(&table_backward_kernel<float>, blocks, stream, static_cast<const float*>(grad),
           static_cast<const float*>(logits), gates, static_cast<float*>(out));
  }
}

}  // namespace lgn::cuda
