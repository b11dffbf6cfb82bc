// Interface of the kernels on packed bits.
#pragma once

#include "rows.h"

namespace lgn::cuda {

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
