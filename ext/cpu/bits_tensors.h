// Tensors of packed rows: [words, features] of 64 samples each, feature-major, rows padded to kBitRowBytes.
#pragma once

#include "tensors.h"

namespace lgn {

inline int64_t bit_pitch(int64_t batch) {
  const int64_t row_samples = 8 * kBitRowBytes;
  return std::max<int64_t>((batch + row_samples - 1) / row_samples, 1) * kBitRowBytes;
}

inline Tensor new_words(int64_t batch, int64_t features) {
  const int64_t pitch = bit_pitch(batch);
  return pooled({(batch + 63) / 64, features}, {1, pitch / 8}, pitch * features, at::kLong);
}
// Bytes from the first bit of a row to the first of a tile of floats: a line of 16 of these is 2 bytes of bits.
inline int64_t bit_offset(const Tile& tile) { return tile.offset / (kLineBytes / 2); }
inline const uint8_t* bytes_of(const Tensor& words) { return static_cast<const uint8_t*>(words.const_data_ptr()); }
inline int64_t pitch_of(const Tensor& words) { return words.stride(1) * 8; }

inline Tensor copy_words(const Tensor& words, int64_t batch) {
  Tensor made = new_words(batch, words.size(1));
  made.copy_(words);
  return made;
}
// Words as the forward pass makes them; a copy where a caller brings others.
inline Tensor whole_rows(const Tensor& words, int64_t batch) {
  const int64_t pitch = pitch_of(words), end = (words.storage_offset() + words.size(1) * words.stride(1)) * 8;
  const bool fits = (words.size(0) == 1 || words.stride(0) == 1) && pitch >= bit_pitch(batch) &&
                    pitch % kBitRowBytes == 0 && end <= static_cast<int64_t>(words.storage().nbytes());
  return fits || words.numel() == 0 ? words : copy_words(words, batch);
}

// Of x [batch, features], bool or real: a bit is x > 0.5.
inline Tensor pack(const Tensor& x) {
  const int64_t batch = x.size(0), features = x.size(1);
  Tensor out = new_words(batch, features);
  if (x.numel() == 0) return out;
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  const int64_t pitch = pitch_of(out);
  if (x.scalar_type() == at::kBool) {
    const auto* from = static_cast<const uint8_t*>(x.const_data_ptr());
    parallel_for((features + 63) / 64, 16, [&](int64_t begin, int64_t end) {
      kernels().bits.pack(from, x.stride(0), x.stride(1), batch, begin * 64, std::min(end * 64, features), to, pitch);
    });
  } else {
    const Rows rows = feature_major(x.to(at::kFloat));
    parallel_for(features, kGrain, [&](int64_t begin, int64_t end) {
      kernels().bit_layer.pack(rows.data, rows.pitch, batch, begin, end, to, pitch);
    });
  }
  return out;
}

}  // namespace lgn
