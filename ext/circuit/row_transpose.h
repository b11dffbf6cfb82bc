// Rows of a table as columns of words of 4 bytes, by the vectors of the instruction set that a file is compiled for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "program.h"

namespace lgn {
namespace {  // another one in each file that is compiled

constexpr int kWindow = 64;  // bytes of a row that are transposed at once
// From the values of one word of the rows to those of the next: powers of two would meet in a few sets of the cache.
constexpr int kStride = kBlock + 16;

#if defined(__AVX512F__)

constexpr int kTile = 16;  // rows and words of a tile
typedef __m512i Row;
#define LGN_ROWS(operation) _mm512_##operation

inline Row load_row(const uint8_t* from, int words) {
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << words) - 1), from);
}

// a[4 g + j]: words j, j + 4, j + 8, j + 12 of the rows 4 g … 4 g + 3
inline void store_columns(const Row (&a)[kTile], int words, uint32_t* to) {
  Row b[kTile];
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j)
#pragma GCC unroll 16
    for (int g = 0; g < 16; g += 8) {
      b[g + j] = _mm512_shuffle_i32x4(a[g + j], a[g + 4 + j], 0x88);
      b[g + 4 + j] = _mm512_shuffle_i32x4(a[g + j], a[g + 4 + j], 0xdd);
    }
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j)
#pragma GCC unroll 16
    for (int odd = 0; odd < 2; ++odd) {
      const int word = 4 * odd + j;
      const Row x = b[4 * odd + j], y = b[8 + 4 * odd + j];
      if (word < words) _mm512_storeu_si512(to + word * kStride, _mm512_shuffle_i32x4(x, y, 0x88));
      if (word + 8 < words) _mm512_storeu_si512(to + (word + 8) * kStride, _mm512_shuffle_i32x4(x, y, 0xdd));
    }
}

#elif defined(__AVX2__)

constexpr int kTile = 8;
typedef __m256i Row;
#define LGN_ROWS(operation) _mm256_##operation

inline Row load_row(const uint8_t* from, int words) {
  const Row there = _mm256_cmpgt_epi32(_mm256_set1_epi32(words), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(from), there);
}

// a[4 g + j]: words j, j + 4 of the rows 4 g … 4 g + 3
inline void store_columns(const Row (&a)[kTile], int words, uint32_t* to) {
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {
    const auto store = [&](int word, Row value) {
      if (word < words) _mm256_storeu_si256(reinterpret_cast<Row*>(to + word * kStride), value);
    };
    store(j, _mm256_permute2x128_si256(a[j], a[4 + j], 0x20));
    store(j + 4, _mm256_permute2x128_si256(a[j], a[4 + j], 0x31));
  }
}

#else

constexpr int kTile = 16;

#endif

// `rows` ≤ kTile rows of `size` bytes, `words` ≤ kTile words of each: the values of word w lie from to[w * kStride] on.
inline void transpose(const uint8_t* from, int64_t size, int rows, int words, uint32_t* to) {
#if defined(LGN_ROWS)
  Row a[kTile], b[kTile];
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) a[i] = i < rows ? load_row(from + i * size, words) : Row{};
#pragma GCC unroll 16
  for (int i = 0; i < kTile; i += 2) {
    b[i] = LGN_ROWS(unpacklo_epi32)(a[i], a[i + 1]);
    b[i + 1] = LGN_ROWS(unpackhi_epi32)(a[i], a[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTile; i += 4)
#pragma GCC unroll 16
    for (int j = 0; j < 2; ++j) {
      a[i + 2 * j] = LGN_ROWS(unpacklo_epi64)(b[i + j], b[i + j + 2]);
      a[i + 2 * j + 1] = LGN_ROWS(unpackhi_epi64)(b[i + j], b[i + j + 2]);
    }
  store_columns(a, words, to);
#else
  for (int i = 0; i < rows; ++i)
    for (int word = 0; word < words; ++word) std::memcpy(to + word * kStride + i, from + i * size + 4 * word, 4);
#endif
}

// `width` bytes of each row as columns.
// What is read after it lies `ahead` bytes further: without a hint each window would wait for the memory.
void transpose_window(const uint8_t* rows, int64_t size, int width, int samples, int64_t ahead, uint32_t* to) {
  const int words = width / 4;
  for (int first = 0; first < samples; first += kTile) {
    for (int i = 0; i < kTile; ++i) __builtin_prefetch(rows + (first + i) * size + ahead + kWindow - 1);
    for (int word = 0; word < words; word += kTile)
      transpose(rows + first * size + 4 * word, size, std::min(kTile, samples - first), std::min(kTile, words - word),
                to + word * kStride + first);
  }
}

}  // namespace
}  // namespace lgn
