// Plain interface between the torch binding and the CUDA kernels: no torch header, so that nvcc takes seconds.
//
// Activations are rows of samples: row `f` is feature `f`, `pitch` elements apart, 64-byte aligned and padded to whole
// lines of 64 bytes, padding readable and writable. Lanes past the batch may hold anything; kernels mask them. Kernels
// run on the stream they are given and never wait for the device. Offsets are 64-bit, indices of rows 32-bit.
#pragma once

#include <cstdint>

using cudaStream_t = struct CUstream_st*;

namespace lgn::cuda {

constexpr int64_t kLineBytes = 64;

// What activations are stored as. Tables, sums and gradients of tables are float, or double for kF64.
enum class Storage : int32_t { kF32, kBF16, kF16, kF64 };

// One stop of the walk over a layer (plan.h): the input, and the gate between the stop before and this one.
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

// Of a straight-through layer, x being packed bits (pitch in bytes, a multiple of 16) and the gradients float: slopes
// are those of the table times `factor`. The storage must be kF32.
void bit_layer_backward(const LayerArgs& layer, float factor, const GradientArgs& gradient, cudaStream_t stream);
// Ids of the gates that logits [gates][width] settle on: of 4, entries above 0 are 1; of 16, the first largest counts.
void gate_ids(const float* logits, int64_t gates, int64_t width, uint8_t* ids, cudaStream_t stream);

// Learned connections. Row 2g of logits, shares and candidates, [gates][2][count], belongs to the first input of gate g
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
  const void* grad;  // as in GradientArgs
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

// Float, or double with `wide`.
void softmax_table(bool wide, const void* logits, int64_t gates, void* table, cudaStream_t stream);
void softmax_table_backward(bool wide, const void* grad, const void* logits, int64_t gates, void* out,
                            cudaStream_t stream);

// Packed rows are strings of bytes whatever the width of the words, sample s in bit s % 8 of byte s / 8; pitch in
// bytes, a multiple of 16, and as many bytes of each row readable and writable.
void pack_bits(const uint8_t* x, int64_t sample_stride, int64_t feature_stride, int64_t batch, int64_t features,
               uint8_t* out, int64_t pitch, cudaStream_t stream);
// To bools [batch, features], contiguous.
void unpack_bits(const uint8_t* x, int64_t pitch, int64_t batch, int64_t features, uint8_t* out, cudaStream_t stream);
void logic_packed(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                  int64_t gate_count, int64_t row_bytes, uint8_t* y, int64_t y_pitch, cudaStream_t stream);
// Adds to `out`, int32 [batch, classes], which the caller has set to 0.
void group_sum_packed(const uint8_t* x, int64_t pitch, int64_t batch, int64_t group, int64_t classes, int32_t* out,
                      cudaStream_t stream);
// Divides sums by tau.
void scores_of_counts(const int32_t* counts, int64_t count, float tau, float* scores, cudaStream_t stream);

}  // namespace lgn::cuda
