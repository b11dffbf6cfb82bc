// Of learned wires on packed bits: the sums of a gate's gradient over the samples at which a candidate is 1.
//
// Four samples have 16 sums over subsets of them, which fill a vector of AVX-512. They are made once a gate, and one
// permutation looks the right ones up for 16 candidates at a time, by 4 bits of each: the method of the four Russians.
// Masked sums take an addition for every candidate and 16 samples, and then one over their lanes.
#pragma once

#include "bits_lanes.h"

#if defined(__AVX512F__)
namespace lgn {
namespace {

typedef __m512i BitColumns[kBitRowBytes / 4];  // lane r of column q: samples 32q … 32q + 31 of row r

// 16 rows of packed samples, transposed.
LGN_INLINE void load_columns(const uint8_t* x, int64_t pitch, const int32_t* rows, BitColumns& columns) {
  __m512i m[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const auto row = [&](int k) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + rows[k] * pitch));
    };
    m[j] = _mm512_castsi128_si512(row(j));
    m[j] = _mm512_mask_broadcast_i32x4(m[j], 0x00f0, row(4 + j));
    m[j] = _mm512_mask_broadcast_i32x4(m[j], 0x0f00, row(8 + j));
    m[j] = _mm512_mask_broadcast_i32x4(m[j], 0xf000, row(12 + j));
  }
  const __m512i low01 = _mm512_unpacklo_epi32(m[0], m[1]), high01 = _mm512_unpackhi_epi32(m[0], m[1]),
                low23 = _mm512_unpacklo_epi32(m[2], m[3]), high23 = _mm512_unpackhi_epi32(m[2], m[3]);
  columns[0] = _mm512_unpacklo_epi64(low01, low23);
  columns[1] = _mm512_unpackhi_epi64(low01, low23);
  columns[2] = _mm512_unpacklo_epi64(high01, high23);
  columns[3] = _mm512_unpackhi_epi64(high01, high23);
}

// For 16 candidates a set: the sum of g where the candidate is 1, and where the gate's other input is 1, too.
struct SubsetSums {
  VecF alone, with_other;
};

// `g` are `vectors` vectors of a gate's gradient, 0 where no sample is. Lane r of a set belongs to the second input
// where its bit of `second` is set; `xa` and `xb` are the rows of the chosen wires.
template <int kSets>
LGN_INLINE void subset_sums(const VecF* g, int vectors, const uint8_t* x, int64_t pitch, const int32_t* rows,
                            const uint8_t* xa, const uint8_t* xb, const LaneMask (&second)[kSets],
                            SubsetSums (&sums)[kSets]) {
  BitColumns set[kSets], both[kSets];
  for (int k = 0; k < kSets; k++) {
    load_columns(x, pitch, rows + 16 * k, set[k]);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
      const auto column = [q](const uint8_t* row) __attribute__((always_inline)) {
        int32_t word;
        std::memcpy(&word, row + 4 * q, sizeof(word));
        return _mm512_set1_epi32(word);
      };
      both[k][q] = _mm512_and_si512(set[k][q], _mm512_mask_mov_epi32(column(xb), second[k], column(xa)));
    }
  }
  __m512 alone[kSets][2], with_other[kSets][2];
  for (int k = 0; k < kSets; k++) {
    for (int parity = 0; parity < 2; parity++) alone[k][parity] = with_other[k][parity] = _mm512_setzero_ps();
  }
  // Not unrolled whole: of that compilers make one long block that lives on the stack.
#pragma GCC unroll 1
  for (int v = 0; v < vectors; v++) {
    __m512i index[kSets], joint[kSets];
    for (int k = 0; k < kSets; k++) {
      const auto shift = static_cast<unsigned>(16 * (v % 2));
      index[k] = _mm512_srli_epi32(set[k][v / 2], shift);
      joint[k] = _mm512_srli_epi32(both[k][v / 2], shift);
    }
    const float* samples = reinterpret_cast<const float*>(g + v);
#pragma GCC unroll 4
    for (int four = 0; four < 4; four++) {
      // Lane m holds the sum over the samples that are bits of m.
      __m512 subset = _mm512_maskz_mov_ps(0xaaaa, _mm512_set1_ps(samples[4 * four]));
      subset = _mm512_mask_add_ps(subset, 0xcccc, subset, _mm512_set1_ps(samples[4 * four + 1]));
      subset = _mm512_mask_add_ps(subset, 0xf0f0, subset, _mm512_set1_ps(samples[4 * four + 2]));
      subset = _mm512_mask_add_ps(subset, 0xff00, subset, _mm512_set1_ps(samples[4 * four + 3]));
#pragma GCC unroll 2
      for (int k = 0; k < kSets; k++) {
        // A permutation looks at the lowest 4 bits of each lane alone.
        alone[k][four % 2] = _mm512_add_ps(alone[k][four % 2], _mm512_permutexvar_ps(index[k], subset));
        with_other[k][four % 2] = _mm512_add_ps(with_other[k][four % 2], _mm512_permutexvar_ps(joint[k], subset));
        index[k] = _mm512_srli_epi32(index[k], 4);
        joint[k] = _mm512_srli_epi32(joint[k], 4);
      }
    }
  }
  for (int k = 0; k < kSets; k++) {
    sums[k].alone = (VecF)_mm512_add_ps(alone[k][0], alone[k][1]);
    sums[k].with_other = (VecF)_mm512_add_ps(with_other[k][0], with_other[k][1]);
  }
}

}  // namespace
}  // namespace lgn
#endif
