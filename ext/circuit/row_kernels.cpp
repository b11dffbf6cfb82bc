// Compiled once for each instruction set, which LGN_SET names. Rows are transposed in windows of 64 bytes, so that each
// is read once (row_transpose.h). Then each comparison makes one bit a value; where a column has several thresholds, a
// binary search finds how many of them a value exceeds, and all their bits come from that number.
#include "row_kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "row_transpose.h"
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

// Vectors of values that look up their next threshold among up to 16 by an index a lane.
template <class T>
struct Lanes {
  static constexpr int kCount = 0;  // no such instructions: each threshold is compared
};

#if defined(__AVX512F__)

template <class T>
struct Lanes4 {
  static constexpr int kCount = 16;
  struct Table {
    __m512i entries;
    explicit Table(const T* from) : entries(_mm512_loadu_si512(from)) {}
  };
  __m512i values, index = _mm512_setzero_si512();
  explicit Lanes4(const T* from) : values(_mm512_loadu_si512(from)) {}
  // Whether each value exceeds its threshold; bit `level` of the index becomes that.
  template <int kLevel>
  void step(const Table& table, uint8_t* mask) {
    const __m512i c = _mm512_permutexvar_epi32(index, table.entries);
    __mmask16 m;
    if constexpr (kIsFloat<T>)
      m = _mm512_cmp_ps_mask(_mm512_castsi512_ps(values), _mm512_castsi512_ps(c), _CMP_GT_OQ);
    else
      m = _mm512_cmpgt_epi32_mask(values, c);
    index = _mm512_mask_or_epi32(index, m, index, _mm512_set1_epi32(1 << kLevel));
    std::memcpy(mask, &m, 2);
  }
};
template <>
struct Lanes<float> : Lanes4<float> {
  using Lanes4::Lanes4;
};
template <>
struct Lanes<int32_t> : Lanes4<int32_t> {
  using Lanes4::Lanes4;
};

template <class T>
struct Lanes8 {
  static constexpr int kCount = 8;
  struct Table {
    __m512i low, high;
    explicit Table(const T* from) : low(_mm512_loadu_si512(from)), high(_mm512_loadu_si512(from + 8)) {}
  };
  __m512i values, index = _mm512_setzero_si512();
  explicit Lanes8(const T* from) : values(_mm512_loadu_si512(from)) {}
  template <int kLevel>
  void step(const Table& table, uint8_t* mask) {
    const __m512i c = _mm512_permutex2var_epi64(table.low, index, table.high);
    __mmask8 m;
    if constexpr (kIsFloat<T>)
      m = _mm512_cmp_pd_mask(_mm512_castsi512_pd(values), _mm512_castsi512_pd(c), _CMP_GT_OQ);
    else
      m = _mm512_cmpgt_epi64_mask(values, c);
    index = _mm512_mask_or_epi64(index, m, index, _mm512_set1_epi64(1 << kLevel));
    *mask = m;
  }
};
template <>
struct Lanes<double> : Lanes8<double> {
  using Lanes8::Lanes8;
};
template <>
struct Lanes<int64_t> : Lanes8<int64_t> {
  using Lanes8::Lanes8;
};

#elif defined(__AVX2__)

template <class T>
struct Lanes4 {
  static constexpr int kCount = 8;
  struct Table {
    __m256 low, high;
    explicit Table(const T* from)
        : low(_mm256_loadu_ps(reinterpret_cast<const float*>(from))),
          high(_mm256_loadu_ps(reinterpret_cast<const float*>(from + 8))) {}
  };
  __m256i values, index = _mm256_setzero_si256();
  explicit Lanes4(const T* from) : values(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))) {}
  template <int kLevel>
  void step(const Table& table, uint8_t* mask) {
    __m256 c = _mm256_permutevar8x32_ps(table.low, index);
    if constexpr (kLevel == 4)
      c = _mm256_blendv_ps(c, _mm256_permutevar8x32_ps(table.high, index),
                           _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
    __m256i m;
    if constexpr (kIsFloat<T>)
      m = _mm256_castps_si256(_mm256_cmp_ps(_mm256_castsi256_ps(values), c, _CMP_GT_OQ));
    else
      m = _mm256_cmpgt_epi32(values, _mm256_castps_si256(c));
    index = _mm256_or_si256(index, _mm256_and_si256(m, _mm256_set1_epi32(1 << kLevel)));
    *mask = static_cast<uint8_t>(_mm256_movemask_ps(_mm256_castsi256_ps(m)));
  }
};
template <>
struct Lanes<float> : Lanes4<float> {
  using Lanes4::Lanes4;
};
template <>
struct Lanes<int32_t> : Lanes4<int32_t> {
  using Lanes4::Lanes4;
};

#endif

constexpr int kMostLevels = 5;
constexpr int kLeastRanked = 5;  // fewer thresholds are compared one by one

// `count` < 2^kLevels comparisons with ascending thresholds: a binary search of kLevels steps, whose decisions are the
// bits of how many thresholds a value exceeds.
template <int kLevels, class T>
void rank(const T* values, const LgnComparison* first, int count, int words, uint8_t* slots) {
  using Tables = typename Lanes<T>::Table;
  constexpr int kMost = (1 << kLevels) - 1, kStep = Lanes<T>::kCount;
  alignas(64) T thresholds[kLevels][16] = {};
  for (int level = 0; level < kLevels; ++level)
    for (int index = 0; index < 1 << level; ++index) {
      int prefix = 0;  // bit i of the index is the decision of level i, the first of which is the highest of the number
      for (int i = 0; i < level; ++i) prefix = 2 * prefix + (index >> i & 1);
      const int at = (prefix << (kLevels - level)) + (1 << (kLevels - level - 1)) - 1;
      constexpr T kNever = kIsFloat<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
      thresholds[level][index] = at < count ? constant_of<T>(first[at].constant) : kNever;
    }
  alignas(64) uint8_t planes[kMostLevels][kSlotBytes] = {};
  {
    const Tables t0(thresholds[0]), t1(thresholds[1]), t2(thresholds[2]), t3(thresholds[kLevels > 3 ? 3 : 0]),
        t4(thresholds[kLevels > 4 ? 4 : 0]);
    for (int i = 0; i < 64 * words; i += kStep) {
      Lanes<T> lanes(values + i);
      lanes.template step<0>(t0, planes[0] + i / 8);
      lanes.template step<1>(t1, planes[1] + i / 8);
      lanes.template step<2>(t2, planes[2] + i / 8);
      if constexpr (kLevels > 3) lanes.template step<3>(t3, planes[3] + i / 8);
      if constexpr (kLevels > 4) lanes.template step<4>(t4, planes[4] + i / 8);
    }
  }
  for (int v = 0; v < kVecs; ++v) {
    Vec bits[kMost];  // bit i: the number's lower digits exceed i
    int size = 0;
#pragma GCC unroll 8
    for (int level = kLevels - 1; level >= 0; --level) {
      Vec digit;
      std::memcpy(&digit, planes[level] + v * kWidth, kWidth);
      bits[size] = digit;
#pragma GCC unroll 16
      for (int i = 0; i < size; ++i) {
        bits[size + 1 + i] = bits[i] & digit;
        bits[i] |= digit;
      }
      size = 2 * size + 1;
    }
    for (int i = 0; i < count; ++i)
      std::memcpy(slots + int64_t(first[i].input) * kSlotBytes + v * kWidth, &bits[i], kWidth);
  }
}

// How many comparisons from the first one on are thresholds in ascending order, as many as are searched at once.
template <class T>
int ascending(const LgnComparison* first, const LgnComparison* last) {
  const int most = static_cast<int>(std::min<int64_t>(last - first, (1 << kMostLevels) - 1));
  int count = 0;
  while (count < most && first[count].op == kGreater &&
         (!count || constant_of<T>(first[count - 1].constant) <= constant_of<T>(first[count].constant)))
    ++count;
  return count;
}

// The comparisons of one column, [first, last), on its values.
template <class T>
void compare_column(T* values, const LgnComparison* first, const LgnComparison* last, int samples, uint8_t* slots) {
  const int words = (samples + 63) / 64;
  std::fill(values + samples, values + 64 * words, T());
  for (; first != last; ++first) {
    if constexpr (Lanes<T>::kCount != 0) {
      const int count = ascending<T>(first, last);
      if (count >= kLeastRanked) {
        (count < 8 ? rank<3, T> : count < 16 ? rank<4, T> : rank<5, T>)(values, first, count, words, slots);
        first += count - 1;
        continue;
      }
    }
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

constexpr int bytes_of(int type) { return type == kFloat64 || type == kInt64 ? 8 : 4; }

// The comparisons of the columns of one window, [first, end).
void pack_window(const uint8_t* rows, int64_t size, const LgnComparison* first, const LgnComparison* end, int samples,
                 int64_t ahead, uint8_t* slots) {
  alignas(64) uint32_t values[kWindow / 4 * kStride];
  const int base = first->offset, width = end[-1].offset + bytes_of(end[-1].type) - base;
  bool has_words = false;
  for (const LgnComparison* c = first; c != end; ++c) has_words |= bytes_of(c->type) == 4;
  if (has_words) transpose_window(rows + base, size, width, samples, ahead, values);
  for (const LgnComparison* last; first != end; first = last) {
    for (last = first + 1; last != end && last->offset == first->offset;) ++last;
    uint8_t* const column = reinterpret_cast<uint8_t*>(values + (first->offset - base) / 4 * kStride);
    if (bytes_of(first->type) == 8)
      for (int i = 0; i < samples; ++i) std::memcpy(column + 8 * i, rows + i * size + first->offset, 8);
    switch (first->type) {
      case kFloat32:
        compare_column(reinterpret_cast<float*>(column), first, last, samples, slots);
        break;
      case kFloat64:
        compare_column(reinterpret_cast<double*>(column), first, last, samples, slots);
        break;
      case kInt32:
        compare_column(reinterpret_cast<int32_t*>(column), first, last, samples, slots);
        break;
      default:
        compare_column(reinterpret_cast<int64_t*>(column), first, last, samples, slots);
    }
  }
}

void pack_rows(const uint8_t* rows, int64_t size, const LgnComparison* comparisons, int64_t count, int samples,
               uint8_t* slots) {
  const LgnComparison* const end = comparisons + count;
  for (const LgnComparison *first = comparisons, *last; first != end; first = last) {
    for (last = first + 1; last != end && last->offset >= first->offset &&
                           last->offset + bytes_of(last->type) <= first->offset + kWindow;)
      ++last;
    const int64_t next = last != end ? last->offset : comparisons->offset + kBlock * size;
    pack_window(rows, size, first, last, samples, next - first->offset, slots);
  }
}

}  // namespace

extern const RowKernels LGN_OF_SET(RowKernels);
const RowKernels LGN_OF_SET(RowKernels) = {pack_rows};

}  // namespace lgn
