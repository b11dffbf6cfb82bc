// Interface of the kernels of straight-through layers on packed bits.
#pragma once

#include "dense.h"

namespace lgn::cuda {

// Of a straight-through layer, x being packed bits (pitch in bytes, a multiple of 16) and the gradients float: slopes
// are those of the table times `factor`. The storage must be kF32.
void bit_layer_backward(const LayerArgs& layer, float factor, const GradientArgs& gradient, cudaStream_t stream);
// Ids of the gates that logits [gates][width] settle on: of 4, entries above 0 are 1; of 16, the first largest counts.
void gate_ids(const float* logits, int64_t gates, int64_t width, uint8_t* ids, cudaStream_t stream);

}  // namespace lgn::cuda
