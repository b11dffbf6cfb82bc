// Tensors of packed rows: [words, features] of 64 samples each, feature-major, rows padded to whole vectors.
#pragma once

#include <ATen/ops/gt.h>

#include "bits.h"
#include "tensors.h"

namespace lgn::cuda {

// Rows of bits are padded to whole vectors, as the fake kernel says.
constexpr int64_t kRowBytes = kVectorBytes;

inline int64_t bit_pitch(int64_t batch) {
  return std::max<int64_t>((batch + 8 * kRowBytes - 1) / (8 * kRowBytes), 1) * kRowBytes;
}

// [words, features] of 64 samples each, feature-major.
inline Tensor new_words(int64_t batch, int64_t features, const Tensor& like) {
  const int64_t pitch = bit_pitch(batch) / 8;
  return at::empty({pitch * features}, like.options().dtype(at::kLong))
      .as_strided({(batch + 63) / 64, features}, {1, pitch});
}

inline Tensor copy_words(const Tensor& words, int64_t batch) {
  Tensor made = new_words(batch, words.size(1), words);
  made.copy_(words);
  return made;
}
// Words as the forward pass makes them; a copy where a caller brings others.
inline Tensor whole_rows(const Tensor& words, int64_t batch) {
  const int64_t end = (words.storage_offset() + words.size(1) * words.stride(1)) * 8;
  const bool fits = (words.size(0) == 1 || words.stride(0) == 1) && byte_pitch(words) >= bit_pitch(batch) &&
                    byte_pitch(words) % kRowBytes == 0 && end <= static_cast<int64_t>(words.storage().nbytes()) &&
                    reinterpret_cast<uintptr_t>(words.const_data_ptr()) % kRowBytes == 0;
  return fits || words.numel() == 0 ? words : copy_words(words, batch);
}

// Of x [batch, features], bool or real: a bit is x > 0.5.
inline Tensor pack(const Tensor& x) {
  const Tensor bits = x.scalar_type() == at::kBool ? x : at::gt(x, 0.5);
  const Tensor words = new_words(x.size(0), x.size(1), x);
  if (x.numel() == 0) return words;
  pack_bits(bytes_of(bits), bits.stride(0), bits.stride(1), x.size(0), x.size(1),
            static_cast<uint8_t*>(words.mutable_data_ptr()), byte_pitch(words), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return words;
}

}  // namespace lgn::cuda
