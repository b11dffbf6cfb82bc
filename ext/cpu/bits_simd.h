// Hard gates on packed samples. Rows are strings of bytes padded to whole lines, see bits.h.
#pragma once

#include "simd.h"

namespace lgn {
namespace {

LGN_INLINE uint64_t load_word(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

void pack_bits(const uint8_t* x, int64_t x_sample, int64_t x_feature, int64_t samples, int64_t begin, int64_t end,
               uint8_t* out, int64_t pitch) {
  constexpr int64_t kBlock = 64;  // features side by side: one line where features are innermost
  for (int64_t f = begin; f < end; f += kBlock) {
    const int64_t width = end - f < kBlock ? end - f : kBlock;
    for (int64_t k = 0; k < width; k++) std::memset(out + (f + k) * pitch, 0, static_cast<size_t>(pitch));
    for (int64_t s = 0; s < samples; s += 8) {
      uint8_t byte[kBlock] = {};
      for (int64_t bit = 0; bit < 8 && s + bit < samples; bit++) {
        const uint8_t* from = x + (s + bit) * x_sample + f * x_feature;
        if (x_feature == 1 && width == kBlock) {
          for (int64_t k = 0; k < kBlock; k++) byte[k] |= static_cast<uint8_t>((from[k] & 1) << bit);
        } else {
          for (int64_t k = 0; k < width; k++) byte[k] |= static_cast<uint8_t>((from[k * x_feature] & 1) << bit);
        }
      }
      for (int64_t k = 0; k < width; k++) out[(f + k) * pitch + s / 8] = byte[k];
    }
  }
}

void unpack_bits(const uint8_t* x, int64_t pitch, int64_t samples, int64_t features, int64_t begin, int64_t end,
                 uint8_t* out) {
  constexpr int64_t kBlock = 64;
  for (int64_t f = begin; f < end; f += kBlock) {
    const int64_t width = end - f < kBlock ? end - f : kBlock;
    for (int64_t s = 0; s < samples; s += 8) {
      uint8_t byte[kBlock] = {};
      for (int64_t k = 0; k < width; k++) byte[k] = x[(f + k) * pitch + s / 8];
      for (int64_t bit = 0; bit < 8 && s + bit < samples; bit++) {
        uint8_t* to = out + (s + bit) * features + f;
        for (int64_t k = 0; k < width; k++) to[k] = byte[k] >> bit & 1;
      }
    }
  }
}

void logic_bits(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                int64_t begin, int64_t end, uint8_t* y, int64_t y_pitch) {
  for (int64_t g = begin; g < end; g++) {
    const uint8_t* left = x + a[g] * x_pitch;
    const uint8_t* right = x + b[g] * x_pitch;
    uint8_t* out = y + g * y_pitch;
    // y = m0 ^ (left & mi) ^ (right & mj) ^ (left & right & mij): the table as a polynomial over two elements.
    const uint32_t id = gates[g], t00 = id >> 3 & 1, t01 = id >> 2 & 1, t10 = id >> 1 & 1, t11 = id & 1;
    const VecU m0 = VecU{} - t00, mi = VecU{} - (t00 ^ t10), mj = VecU{} - (t00 ^ t01),
               mij = VecU{} - (t00 ^ t01 ^ t10 ^ t11);
    for (int64_t byte = 0; byte < y_pitch; byte += kVectorBytes) {
      const VecU l = load<VecU>(left + byte), r = load<VecU>(right + byte);
      store(out + byte, m0 ^ (l & mi) ^ (r & (mj ^ (l & mij))));
    }
  }
}

// Adds 2^L rows to planes 0 … L-1, plane p being bit p of every sample's count, and gives what is carried to plane L.
template <int L>
LGN_INLINE uint64_t add_rows(const uint8_t* x, int64_t pitch, uint64_t* plane) {
  if constexpr (L == 0) {
    return load_word(x);
  } else {
    const uint64_t u = add_rows<L - 1>(x, pitch, plane), v = add_rows<L - 1>(x + (pitch << (L - 1)), pitch, plane),
                   half = plane[L - 1] ^ u, carry = (plane[L - 1] & u) | (half & v);
    plane[L - 1] = half ^ v;
    return carry;
  }
}

// Adds up 64 samples at once in bit-sliced counters.
void count_bits(const uint8_t* x, int64_t pitch, int64_t byte, int64_t begin, int64_t end, int32_t* counts) {
  constexpr int kBlock = 4;  // 16 rows leave one carry to ripple
  uint64_t plane[32] = {};
  const auto add = [&plane](uint64_t word, int p) {
    for (; word != 0 && p < 32; p++) {
      const uint64_t carry = plane[p] & word;
      plane[p] ^= word;
      word = carry;
    }
  };
  int64_t f = begin;
  for (; f + (1 << kBlock) <= end; f += 1 << kBlock) add(add_rows<kBlock>(x + f * pitch + byte, pitch, plane), kBlock);
  for (; f < end; f++) add(load_word(x + f * pitch + byte), 0);
  for (int s = 0; s < 64; s++) {
    uint32_t total = 0;
    for (int p = 0; p < 32; p++) total |= static_cast<uint32_t>(plane[p] >> s & 1) << p;
    counts[s] = static_cast<int32_t>(total);
  }
}

constexpr BitKernels bit_kernels() { return {&pack_bits, &unpack_bits, &logic_bits, &count_bits}; }

}  // namespace
}  // namespace lgn
