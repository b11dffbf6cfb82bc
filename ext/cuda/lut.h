// Interface of the kernels of lookup tables of 2 to 6 inputs.
//
// The first input of a gate is the most significant digit of an entry's number.
#pragma once

#include "rows.h"

namespace lgn::cuda {

struct LutArgs {
  Storage storage;
  int32_t inputs;  // of a gate
  int64_t gates;
  int64_t batch;
  const void* x;
  int64_t x_pitch;
  const void* table;       // [gates][2^inputs]
  const int32_t* indices;  // [inputs][gates]
};

struct LutGradientArgs {
  const void* grad;  // a row a gate in storage type
  int64_t grad_pitch;
  void* grad_table;  // [gates][2^inputs]
  int64_t samples;   // of a slice of the batch, whose gradients of the gates' inputs are in memory at a time
  void* grad_x;      // null if it is not wanted, nor is what follows
  int64_t grad_x_pitch;
  void* parts;                // rows of sums [inputs][gates][samples]
  const int32_t* uses;        // [inputs][gates] rows of parts, by feature and in the order of their sum
  const int32_t* uses_begin;  // [features + 1]
  int64_t features;
};

// Slices are such that the parts take `part_bytes` at most, unless those of one tile take more.
int64_t lut_slice(const LutArgs& layer, int64_t part_bytes);
void lut_forward(const LutArgs& layer, void* y, int64_t y_pitch, cudaStream_t stream);
void lut_backward(const LutArgs& layer, const LutGradientArgs& gradient, cudaStream_t stream);

// Packed rows as in bits.h; entry 0 is the most significant of the 2^inputs bits of an id.
void lut_packed(const uint8_t* x, int64_t x_pitch, const int64_t* ids, const int32_t* indices, int32_t inputs,
                int64_t gates, int64_t row_bytes, uint8_t* y, int64_t y_pitch, cudaStream_t stream);
// Ids of the tables that logits [gates][entries] settle on.
void lut_ids(const float* logits, int64_t gates, int64_t entries, int64_t* ids, cudaStream_t stream);

}  // namespace lgn::cuda
