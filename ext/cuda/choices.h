// Interface of the kernels of learned connections.
#pragma once

#include "rows.h"

namespace lgn::cuda {

// Row 2g of logits, shares and candidates, [gates][2][count], belongs to the first input of gate g
// and row 2g + 1 to its second. A choice is the first candidate with the largest logit, or, with `level`, drawn by a
// uniform number a row with the probabilities that logits / noise have.
void choose(const float* logits, const int32_t* candidates, int64_t gates, int64_t count, const float* level,
            float noise, int32_t* a, int32_t* b, float* shares, cudaStream_t stream);
void choose_backward(const float* grad, const float* shares, int64_t gates, int64_t count, float* out,
                     cudaStream_t stream);

struct ChoiceArgs {
  Storage storage;
  int64_t batch;
  const void* x;
  int64_t x_pitch;
  const void* table;  // [gates][4]
  const int32_t* a;
  const int32_t* b;
  const int32_t* candidates;
  int64_t gates, count;
  const void* grad;  // a row a gate in storage type; if group > 0, rows of sums, one for every `group` gates
  int64_t grad_pitch;
  int32_t group;
  void* grad_shares;  // sums [gates][2][count]
  void* grad_table;   // sums [gates][4]; null if they are not wanted
};
void choices_backward(const ChoiceArgs& args, cudaStream_t stream);
// The same, x being packed bits as of bit_layer_backward.
void bit_choices_backward(const ChoiceArgs& args, cudaStream_t stream);
// The gradient of the inputs of such a layer, for wires of one step, which no walk was made of: uses[begin[i]] …
// uses[begin[i + 1] - 1] are the rows 2g or 2g + 1 that input i is the wire of, in the order of their sum.
void bit_inputs_backward(const ChoiceArgs& args, float factor, const int32_t* uses, const int32_t* begin,
                         int64_t inputs, float* grad_x, int64_t grad_x_pitch, cudaStream_t stream);

}  // namespace lgn::cuda
