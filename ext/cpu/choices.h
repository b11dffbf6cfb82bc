// Interface of the kernels of learned connections.
#pragma once

#include <cstdint>

#include "tile.h"

namespace lgn {

// For gates begin … end-1, from rows of grad, one a gate, and their two lists of `count` candidates, [gates][2][count],
// to the gradients of each candidate's share; adds to `out` if there is more.
typedef void (*ChoicesBackward)(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, const void* table,
                                const int32_t* a, const int32_t* b, const int32_t* candidates, int64_t count,
                                int64_t begin, int64_t end, void* out, bool more, const Tile& tile);

// Row 2g of logits and candidates, [gates][2][count], belongs to the first input of gate g and row 2g + 1 to its
// second.
struct ChoiceKernels {
  // The largest of some indices, of which negative ones are larger than all others; 0 of none.
  uint32_t (*largest)(const int32_t* indices, int64_t count);
  // For rows begin … end-1: the softmax of the logits, and the wire that is chosen: the first with the largest logit,
  // or drawn by a uniform number a row in `level`, with the probabilities that logits / noise have.
  void (*choose)(const float* logits, const int32_t* candidates, int64_t count, const float* level, float noise,
                 int64_t begin, int64_t end, int32_t* a, int32_t* b, float* shares);
  // From gradients of the shares to those of the logits.
  void (*choose_backward)(const float* grad, const float* shares, int64_t count, int64_t begin, int64_t end,
                          float* out);
};

}  // namespace lgn
