// Compiled once for each instruction set, which LGN_SET names. A column's values of a block are gathered once;
// each comparison then makes one bit a value.
#include "row_kernels.h"

#include <cstring>
#include <limits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "vector.h"

namespace lgn {
namespace {

template <class T>
constexpr bool kIsFloat = !std::numeric_limits<T>::is_integer;

template <class T>
inline bool is_missing(T value) {
  if constexpr (kIsFloat<T>)
    return value != value;
  else
    return value == std::numeric_limits<T>::min();
}

// 64 bits: whether each of 64 values is greater than a constant, equal to it, or missing.
template <int kOp, class T>
inline uint64_t compare64(const T* values, T constant) {
#if defined(__AVX512F__)
  uint64_t bits = 0;
  constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
  for (int i = 0; i < 64; i += kLanes) {
    uint64_t mask;
    if constexpr (kIsFloat<T> && sizeof(T) == 4) {
      const __m512 x = _mm512_loadu_ps(values + i), c = _mm512_set1_ps(constant);
      mask = kOp == kGreater ? _mm512_cmp_ps_mask(x, c, _CMP_GT_OQ)
             : kOp == kEqual ? _mm512_cmp_ps_mask(x, c, _CMP_EQ_OQ)
                             : _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    } else if constexpr (kIsFloat<T>) {
      const __m512d x = _mm512_loadu_pd(values + i), c = _mm512_set1_pd(constant);
      mask = kOp == kGreater ? _mm512_cmp_pd_mask(x, c, _CMP_GT_OQ)
             : kOp == kEqual ? _mm512_cmp_pd_mask(x, c, _CMP_EQ_OQ)
                             : _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q);
    } else if constexpr (sizeof(T) == 4) {
      const __m512i x = _mm512_loadu_si512(values + i), c = _mm512_set1_epi32(constant);
      mask = kOp == kGreater ? _mm512_cmpgt_epi32_mask(x, c) : _mm512_cmpeq_epi32_mask(x, c);
    } else {
      const __m512i x = _mm512_loadu_si512(values + i), c = _mm512_set1_epi64(constant);
      mask = kOp == kGreater ? _mm512_cmpgt_epi64_mask(x, c) : _mm512_cmpeq_epi64_mask(x, c);
    }
    bits |= mask << i;
  }
  return bits;
#elif defined(__AVX2__)
  uint64_t bits = 0;
  constexpr int kLanes = 32 / static_cast<int>(sizeof(T));
  for (int i = 0; i < 64; i += kLanes) {
    int mask;
    if constexpr (kIsFloat<T> && sizeof(T) == 4) {
      const __m256 x = _mm256_loadu_ps(values + i), c = _mm256_set1_ps(constant);
      mask = _mm256_movemask_ps(kOp == kGreater ? _mm256_cmp_ps(x, c, _CMP_GT_OQ)
                                : kOp == kEqual ? _mm256_cmp_ps(x, c, _CMP_EQ_OQ)
                                                : _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    } else if constexpr (kIsFloat<T>) {
      const __m256d x = _mm256_loadu_pd(values + i), c = _mm256_set1_pd(constant);
      mask = _mm256_movemask_pd(kOp == kGreater ? _mm256_cmp_pd(x, c, _CMP_GT_OQ)
                                : kOp == kEqual ? _mm256_cmp_pd(x, c, _CMP_EQ_OQ)
                                                : _mm256_cmp_pd(x, x, _CMP_UNORD_Q));
    } else {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
      if constexpr (sizeof(T) == 4) {
        const __m256i c = _mm256_set1_epi32(constant);
        mask = _mm256_movemask_ps(
            _mm256_castsi256_ps(kOp == kGreater ? _mm256_cmpgt_epi32(x, c) : _mm256_cmpeq_epi32(x, c)));
      } else {
        const __m256i c = _mm256_set1_epi64x(constant);
        mask = _mm256_movemask_pd(
            _mm256_castsi256_pd(kOp == kGreater ? _mm256_cmpgt_epi64(x, c) : _mm256_cmpeq_epi64(x, c)));
      }
    }
    bits |= uint64_t(static_cast<unsigned>(mask)) << i;
  }
  return bits;
#else
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) {
    const bool bit = kOp == kGreater ? values[i] > constant
                     : kOp == kEqual ? values[i] == constant
                                     : is_missing(values[i]);
    bits |= uint64_t(bit) << i;
  }
  return bits;
#endif
}

template <int kOp, class T>
inline void compare(const T* values, T constant, int words, uint8_t* slot) {
  for (int w = 0; w < words; ++w) {
    const uint64_t bits = compare64<kOp>(values + 64 * w, constant);
    std::memcpy(slot + 8 * w, &bits, 8);
  }
}

// Bit `bit` of whole numbers, or of their Gray code; 0 of missing ones.
template <class T>
void pick_bit(const T* values, int bit, bool gray, int words, uint8_t* slot) {
  for (int w = 0; w < words; ++w) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; ++i) {
      const T value = values[64 * w + i];
      const T code = gray ? static_cast<T>(value ^ (value >> 1)) : value;
      bits |= uint64_t(!is_missing(value) && (code >> bit & 1)) << i;
    }
    std::memcpy(slot + 8 * w, &bits, 8);
  }
}

template <class T>
T constant_of(int64_t constant) {
  if constexpr (kIsFloat<T>) {
    double value;
    std::memcpy(&value, &constant, 8);
    return static_cast<T>(value);
  } else {
    return static_cast<T>(constant);
  }
}

// The comparisons of one column, [first, last).
template <class T>
void pack_column(const uint8_t* rows, int64_t size, const LgnComparison* first, const LgnComparison* last, int samples,
                 uint8_t* slots) {
  alignas(64) T values[kBlock];
  const uint8_t* from = rows + first->offset;
  for (int i = 0; i < samples; ++i, from += size) std::memcpy(values + i, from, sizeof(T));
  const int words = (samples + 63) / 64;
  for (int i = samples; i < 64 * words; ++i) values[i] = T();
  for (; first != last; ++first) {
    uint8_t* const slot = slots + int64_t(first->input) * kSlotBytes;
    switch (first->op) {
      case kGreater:
        compare<kGreater>(values, constant_of<T>(first->constant), words, slot);
        break;
      case kEqual:
        compare<kEqual>(values, constant_of<T>(first->constant), words, slot);
        break;
      case kMissing:  // of a whole number: equal to the smallest
        if constexpr (kIsFloat<T>)
          compare<kMissing>(values, T(), words, slot);
        else
          compare<kEqual>(values, std::numeric_limits<T>::min(), words, slot);
        break;
      default:
        if constexpr (!kIsFloat<T>)
          pick_bit(values, static_cast<int>(first->constant), first->op == kGray, words, slot);
    }
  }
}

void pack_rows(const uint8_t* rows, int64_t size, const LgnComparison* comparisons, int64_t count, int samples,
               uint8_t* slots) {
  const LgnComparison* const end = comparisons + count;
  for (const LgnComparison *first = comparisons, *last; first != end; first = last) {
    for (last = first + 1; last != end && last->offset == first->offset;) ++last;
    switch (first->type) {
      case kFloat32:
        pack_column<float>(rows, size, first, last, samples, slots);
        break;
      case kFloat64:
        pack_column<double>(rows, size, first, last, samples, slots);
        break;
      case kInt32:
        pack_column<int32_t>(rows, size, first, last, samples, slots);
        break;
      default:
        pack_column<int64_t>(rows, size, first, last, samples, slots);
    }
  }
}

}  // namespace

extern const RowKernels LGN_OF_SET(RowKernels);
const RowKernels LGN_OF_SET(RowKernels) = {pack_rows};

}  // namespace lgn
