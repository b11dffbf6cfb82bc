// Tensors in the forms that the CUDA kernels take: rows of whole lines, aligned tables, current streams.
//
// For the files of ops only. Single operator headers: the whole of torch takes a compiler four times as long.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>

#include "../cpu/arguments.h"
#include "rows.h"

namespace lgn::cuda {

using at::Tensor;

constexpr int64_t kVectorBytes = 16;

inline int64_t padded_bytes(int64_t bytes) { return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes; }
inline int64_t pitch_of(int64_t samples, at::ScalarType dtype) {
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  return padded_bytes(std::max<int64_t>(samples, 1) * element) / element;
}

// [samples, features] whose storage covers whole rows, padding included.
inline Tensor new_feature_major(int64_t samples, int64_t features, at::ScalarType dtype, const Tensor& like) {
  const int64_t pitch = pitch_of(samples, dtype);
  return at::empty({pitch * features}, like.options().dtype(dtype)).as_strided({samples, features}, {1, pitch});
}

inline bool has_whole_lines(const Tensor& x) {
  const auto element = static_cast<int64_t>(x.element_size());
  const int64_t pitch = x.stride(1) * element, needed = padded_bytes(x.size(0) * element);
  if ((x.size(0) != 1 && x.stride(0) != 1) || pitch % kLineBytes != 0 || pitch < needed) return false;
  if (reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kLineBytes != 0) return false;
  const int64_t end = x.storage_offset() * element + (x.size(1) - 1) * pitch + needed;
  return end <= static_cast<int64_t>(x.storage().nbytes());
}

inline Tensor feature_major(const Tensor& x) {
  if (x.numel() == 0 || has_whole_lines(x)) return x;
  Tensor copy = new_feature_major(x.size(0), x.size(1), x.scalar_type(), x);
  copy.copy_(x);
  return copy;
}

inline const uint8_t* bytes_of(const Tensor& t) { return static_cast<const uint8_t*>(t.const_data_ptr()); }
inline int64_t byte_pitch(const Tensor& rows) { return rows.stride(1) * static_cast<int64_t>(rows.element_size()); }

// Contiguous, of a dtype, and on an address that vectors can be read from.
inline Tensor plain(const Tensor& t, at::ScalarType dtype) {
  Tensor made = t.to(dtype).contiguous();
  return reinterpret_cast<uintptr_t>(made.const_data_ptr()) % kVectorBytes == 0 ? made : made.clone();
}

inline Storage storage_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return Storage::kF32;
    case at::kBFloat16:
      return Storage::kBF16;
    case at::kHalf:
      return Storage::kF16;
    case at::kDouble:
      return Storage::kF64;
    default:
      TORCH_CHECK_TYPE(false, "activations are ", dtype, ", but must be float32, bfloat16, float16 or float64");
  }
}
inline at::ScalarType sum_dtype(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

inline cudaStream_t stream_of(const Tensor& t) { return c10::cuda::getCurrentCUDAStream(t.get_device()).stream(); }

}  // namespace lgn::cuda
