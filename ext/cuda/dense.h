// Interface of the kernels of dense layers of gates, of group sums and of the softmax over gates.
#pragma once

#include "rows.h"

namespace lgn::cuda {

// One stop of the walk over a layer (dense_plan.h): the input, and the gate between the stop before and this one.
struct alignas(16) Visit {
  int32_t input;
  int32_t gate;     // -1: a trail starts here
  int32_t target;   // where the gradient of this stop goes: row of grad_x, or ~slot of the partial sums
  int32_t swapped;  // 1: this stop is the gate's first input and the stop before its second
};

struct LayerArgs {
  Storage storage;
  int64_t batch;
  const void* x;
  int64_t x_pitch;
  const void* table;  // [gates][4]
  const Visit* visits;
  int64_t visit_count;
};

struct GradientArgs {
  const void* grad;  // one row a gate in storage type; if group > 0, rows of sums, one for every `group` gates
  int64_t grad_pitch;
  int32_t group;
  void* grad_table;  // [gates][4]
  void* grad_x;      // null if it is not wanted
  int64_t grad_x_pitch;
  void* partials;  // sums [slots][partial_pitch] of inputs with several stops, and where they go
  int64_t partial_pitch;
  const int32_t* merge_inputs;  // [merges]
  const int32_t* merge_begin;   // [merges + 1], slots of each
  int64_t merges;
};

void logic_forward(const LayerArgs& layer, void* y, int64_t y_pitch, cudaStream_t stream);
void logic_backward(const LayerArgs& layer, const GradientArgs& gradient, cudaStream_t stream);

// Sums of `group` neighbouring rows. With a table the rows are the outputs of gates on x, which are never stored.
struct GroupArgs {
  Storage storage;
  int64_t batch;
  const void* x;
  int64_t x_pitch;
  const void* table;  // null: the rows of x themselves
  const int32_t* a;
  const int32_t* b;
  int64_t group;
  int64_t classes;
  double tau;
  void* partials;  // sums [classes · group_slices(group)][partial_pitch]
  int64_t partial_pitch;
  void* out;  // sums [batch][classes]
};
int64_t group_slices(int64_t group);
void group_sum(const GroupArgs& args, cudaStream_t stream);
// [batch, classes] of sums, any strides, to rows [classes][pitch] times `scale`.
void compact_gradient(Storage storage, const void* grad, int64_t sample_stride, int64_t class_stride, int64_t batch,
                      int64_t classes, double scale, void* out, int64_t pitch, cudaStream_t stream);

// Softmax of 16 logits to a table of 4, and back. Float, or double with `wide`.
void softmax_table(bool wide, const void* logits, int64_t gates, void* table, cudaStream_t stream);
void softmax_table_backward(bool wide, const void* grad, const void* logits, int64_t gates, void* out,
                            cudaStream_t stream);

}  // namespace lgn::cuda
