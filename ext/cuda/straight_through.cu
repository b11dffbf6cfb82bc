// Straight-through layers: the backward pass from packed bits alone, and the hard gates of logits.
#include "bits_input.cuh"
#include "dense_backward.cuh"
#include "straight_through.h"

namespace lgn::cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    gate_ids_kernel(const float* __restrict__ logits, int64_t gates, int width, uint8_t* __restrict__ ids) {
  const int64_t gate = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (gate >= gates) return;
  uint32_t id = 0;
  if (width == 4) {
    float entries[4];
    load_table(logits, gate, entries);
#pragma unroll
    for (int e = 0; e < 4; e++) id = id * 2 + (entries[e] > 0);
  } else {
    float best = 0;
    for (int four = 0; four < width / 4; four++) {
      float entries[4];
      load_table(logits, gate * (width / 4) + four, entries);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        // A NaN is the largest, as for torch's argmax.
        if (four + e == 0 || entries[e] > best || (entries[e] != entries[e] && best == best)) {
          best = entries[e];
          id = static_cast<uint32_t>(four * 4 + e);
        }
      }
    }
  }
  ids[gate] = static_cast<uint8_t>(id);
}

}  // namespace

void bit_layer_backward(const LayerArgs& layer, float factor, const GradientArgs& gradient, cudaStream_t stream) {
  backward_on(BitInput{static_cast<const uint8_t*>(layer.x), layer.x_pitch, factor}, layer, gradient, stream);
}

void gate_ids(const float* logits, int64_t gates, int64_t width, uint8_t* ids, cudaStream_t stream) {
  launch(&gate_ids_kernel, ceil_div(gates, kThreads), stream, logits, gates, width, ids);
}

}  // namespace lgn::cuda
