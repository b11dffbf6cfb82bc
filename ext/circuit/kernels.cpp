// Compiled once for each instruction set, which LGN_SET names (Generic, Avx2, Avx512); the compiler's vector extension
// does the rest.
#include "kernels.h"

#include <algorithm>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "vector.h"

namespace lgn {
namespace {

// Bits bytes[p] > level of 64 bytes.
inline uint64_t compare_bytes(const uint8_t* bytes, uint8_t level) {
#if defined(__AVX512BW__)
  return _mm512_cmpgt_epu8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(static_cast<char>(level)));
#elif defined(__AVX2__)
  const __m256i threshold = _mm256_set1_epi8(static_cast<char>(level)), zero = _mm256_setzero_si256();
  const auto below = [&](const uint8_t* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_subs_epu8(x, threshold), zero)));
  };
  return ~(uint64_t(below(bytes + 32)) << 32 | below(bytes));
#elif defined(__SSE2__)
  const __m128i threshold = _mm_set1_epi8(static_cast<char>(level)), zero = _mm_setzero_si128();
  uint64_t bits = 0;
  for (int i = 0; i < 4; ++i) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * i));
    const unsigned below = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_subs_epu8(x, threshold), zero)));
    bits |= uint64_t(below ^ 0xFFFFu) << (16 * i);
  }
  return bits;
#else
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= uint64_t(bytes[i] > level) << i;
  return bits;
#endif
}

// The same of the last `count` bytes of a row of `row`, where count < 64: bytes behind them are not ours to read, those
// before them in the row are.
inline uint64_t compare_tail(const uint8_t* bytes, int count, int64_t row, uint8_t level) {
  if (row >= 64) return compare_bytes(bytes + count - 64, level) >> (64 - count);
  uint8_t padded[64] = {};
  std::memcpy(padded, bytes, static_cast<size_t>(count));
  return compare_bytes(padded, level);
}

// One step of the transposition of a bit matrix: swaps blocks of j bits.
inline void swap_bits(Vec& a, Vec& b, int j, uint64_t mask) {
  const Vec t = ((a >> j) ^ b) & mask;
  b ^= t;
  a ^= t << j;
}

// Transposes eight 64x64 bit matrices, one in each 64-bit lane of a slot, and stores the first `count` rows. A register
// at a time: eight slots would not fit the registers of AVX2 and SSE2.
void transpose(uint8_t* rows, int count, uint8_t* out) {
  for (int lane = 0; lane < kVecs; ++lane, rows += kWidth, out += kWidth) {
    const auto row = [&](int i) { return reinterpret_cast<Vec*>(rows + i * kSlotBytes); };
    for (int i = 0; i < 8; ++i) {
      Vec v[8];
      for (int q = 0; q < 8; ++q) v[q] = *row(i + 8 * q);
      for (int q = 0; q < 4; ++q) swap_bits(v[q], v[q + 4], 32, 0x00000000FFFFFFFFull);
      for (int q : {0, 1, 4, 5}) swap_bits(v[q], v[q + 2], 16, 0x0000FFFF0000FFFFull);
      for (int q : {0, 2, 4, 6}) swap_bits(v[q], v[q + 1], 8, 0x00FF00FF00FF00FFull);
      for (int q = 0; q < 8; ++q) *row(i + 8 * q) = v[q];
    }
    for (int i = 0; 8 * i < count; ++i) {
      Vec v[8];
      for (int q = 0; q < 8; ++q) v[q] = *row(8 * i + q);
      for (int q = 0; q < 4; ++q) swap_bits(v[q], v[q + 4], 4, 0x0F0F0F0F0F0F0F0Full);
      for (int q : {0, 1, 4, 5}) swap_bits(v[q], v[q + 2], 2, 0x3333333333333333ull);
      for (int q : {0, 2, 4, 6}) swap_bits(v[q], v[q + 1], 1, 0x5555555555555555ull);
      for (int q = 0; q < 8 && 8 * i + q < count; ++q) *reinterpret_cast<Vec*>(out + (8 * i + q) * kSlotBytes) = v[q];
    }
  }
}

void pack(const uint8_t* rows, int64_t row, const uint8_t* levels, int64_t num_levels, int samples, uint64_t* scratch,
          uint8_t* slots) {
  // 520 and not 512 words a chunk, so that the chunks of a row do not fall into one cache set.
  const int64_t whole = row / 64, chunks = (row + 63) / 64;
  const int rest = static_cast<int>(row % 64);
  for (int64_t t = 0; t < num_levels; ++t) {
    if (samples < kBlock) std::memset(scratch, 0, static_cast<size_t>(chunks) * 520 * 8);
    // Samples 64 apart lie in the lanes of one vector: visited together they fill whole cache lines.
    for (int i = 0; i < kBlock; ++i) {
      const int sample = (i & 7) * 64 + (i >> 3);
      if (sample >= samples) continue;
      const uint8_t* bytes = rows + sample * row;
      uint64_t* word = scratch + (sample & 63) * 8 + (sample >> 6);
      for (int64_t c = 0; c < whole; ++c) word[520 * c] = compare_bytes(bytes + 64 * c, levels[t]);
      if (rest) word[520 * whole] = compare_tail(bytes + 64 * whole, rest, row, levels[t]);
    }
    for (int64_t c = 0; c < chunks; ++c)
      transpose(reinterpret_cast<uint8_t*>(scratch + 520 * c), c < whole ? 64 : rest,
                slots + (t * row + 64 * c) * kSlotBytes);
  }
}

template <int kKind>
inline void gate(uint8_t* slots, uint64_t a, uint64_t b, uint64_t out) {
  const Vec* x = reinterpret_cast<const Vec*>(slots + a * kSlotBytes);
  const Vec* y = reinterpret_cast<const Vec*>(slots + b * kSlotBytes);
  Vec* z = reinterpret_cast<Vec*>(slots + out * kSlotBytes);
  for (int i = 0; i < kVecs; ++i)
    z[i] = kKind == kAnd ? x[i] & y[i] : kKind == kAndNot ? x[i] & ~y[i] : kKind == kOr ? x[i] | y[i] : x[i] ^ y[i];
}

template <int kKind>
void run_group(const GroupedProgram& program, const GroupedProgram::Group& group, uint8_t* slots) {
  if (!program.narrow.empty()) {
    for (uint32_t i = group.begin; i < group.end; ++i) {
      const uint64_t r = program.narrow[i];
      gate<kKind>(slots, r & 0xFFFF, r >> 16 & 0xFFFF, r >> 32);
    }
  } else {
    const uint32_t* r = program.wide.data() + 3 * size_t(group.begin);
    for (uint32_t i = group.begin; i < group.end; ++i, r += 3) gate<kKind>(slots, r[0], r[1], r[2]);
  }
}

void interpret(const GroupedProgram& program, uint8_t* slots) {
  for (const GroupedProgram::Group& group : program.groups) {
    switch (group.kind) {
      case kAnd:
        run_group<kAnd>(program, group, slots);
        break;
      case kAndNot:
        run_group<kAndNot>(program, group, slots);
        break;
      case kOr:
        run_group<kOr>(program, group, slots);
        break;
      case kXor:
        run_group<kXor>(program, group, slots);
        break;
    }
  }
}

inline void full_adder(Vec& sum, Vec& carry, Vec x, Vec y) {
  const Vec both = sum ^ x;
  carry = (sum & x) | (both & y);
  sum = both ^ y;
}

// Adds the ones of slots, or the zeros of complemented ones, to the counter `plane`, whose lowest four are `low`.
template <bool kComplemented>
inline void count_slots(const std::vector<uint32_t>& which, const uint8_t* slots, int planes, Vec* plane,
                        Vec (&low)[4]) {
  const auto load = [&](size_t i) {
    const Vec x = *reinterpret_cast<const Vec*>(slots + size_t(which[i]) * kSlotBytes);
    return kComplemented ? ~x : x;
  };
  Vec ones = low[0], twos = low[1], fours = low[2], eights = low[3];
  const auto ripple = [&](Vec carry) {
    for (int d = 4; d < planes; ++d) {
      const Vec old = plane[d];
      plane[d] = old ^ carry;
      carry = old & carry;
    }
  };
  const auto half_adder = [](Vec& sum, Vec& carry) {
    const Vec old = sum;
    sum = old ^ carry;
    carry = old & carry;
  };
  size_t i = 0;
  for (; i + 16 <= which.size(); i += 16) {
    Vec two_a, two_b, four_a, four_b, eight_a, eight_b, carry;
    full_adder(ones, two_a, load(i), load(i + 1));
    full_adder(ones, two_b, load(i + 2), load(i + 3));
    full_adder(twos, four_a, two_a, two_b);
    full_adder(ones, two_a, load(i + 4), load(i + 5));
    full_adder(ones, two_b, load(i + 6), load(i + 7));
    full_adder(twos, four_b, two_a, two_b);
    full_adder(fours, eight_a, four_a, four_b);
    full_adder(ones, two_a, load(i + 8), load(i + 9));
    full_adder(ones, two_b, load(i + 10), load(i + 11));
    full_adder(twos, four_a, two_a, two_b);
    full_adder(ones, two_a, load(i + 12), load(i + 13));
    full_adder(ones, two_b, load(i + 14), load(i + 15));
    full_adder(twos, four_b, two_a, two_b);
    full_adder(fours, eight_b, four_a, four_b);
    full_adder(eights, carry, eight_a, eight_b);
    ripple(carry);
  }
  for (; i < which.size(); i += 2) {
    Vec carry;
    full_adder(ones, carry, load(i), i + 1 < which.size() ? load(i + 1) : Vec{});
    half_adder(twos, carry);
    half_adder(fours, carry);
    half_adder(eights, carry);
    ripple(carry);
  }
  low[0] = ones;
  low[1] = twos;
  low[2] = fours;
  low[3] = eights;
}

int count_ones(const GroupedProgram::ClassSum& sum, const uint8_t* slots, uint8_t* planes) {
  int planes_needed = 0;
  while ((sum.plain.size() + sum.complemented.size()) >> planes_needed) ++planes_needed;
  for (int lane = 0; lane < kVecs; ++lane, slots += kWidth, planes += kWidth) {
    Vec plane[kMaxPlanes] = {}, low[4] = {};
    count_slots<false>(sum.plain, slots, planes_needed, plane, low);
    count_slots<true>(sum.complemented, slots, planes_needed, plane, low);
    std::copy(low, low + 4, plane);
    for (int d = 0; d < planes_needed; ++d) *reinterpret_cast<Vec*>(planes + d * kSlotBytes) = plane[d];
  }
  return planes_needed;
}

template <class V, class T>
inline V splat(T value) {
  return V{} + value;
}

template <class T>
void read_planes(const uint8_t* const* planes, int num_planes, T offset, T* counts) {
  constexpr int kLanes = kWidth / static_cast<int>(sizeof(T));
  typedef T Counts __attribute__((vector_size(kWidth), may_alias));
  Counts bit;
  for (int i = 0; i < kLanes; ++i) bit[i] = static_cast<T>(1 << (i % 16));
  for (int first = 0; first < kBlock; first += kLanes) {
    Counts sum = {};
    for (int d = num_planes; d-- > 0;) {  // from the highest bit, doubling
#if defined(__AVX512BW__)
      if constexpr (sizeof(T) == 2) {
        uint32_t mask;
        std::memcpy(&mask, planes[d] + first / 8, 4);
        sum = (Counts)_mm512_mask_add_epi16((__m512i)sum, mask, (__m512i)sum, _mm512_set1_epi16(short(1 << d)));
        continue;
      }
#endif
      uint16_t word = 0;
      std::memcpy(&word, planes[d] + first / 8, kLanes < 16 ? 1 : 2);
      // Each lane keeps its own bit; a comparison makes it -1.
      const Counts spread = splat<Counts>(static_cast<T>(word >> (first % 8)));
      sum = sum + sum - ((spread & bit) == bit);
    }
    *reinterpret_cast<Counts*>(counts + first) = sum + offset;
  }
}

template <class T>
void argmax(const T* counts, int64_t classes, int32_t* best) {
  constexpr int kLanes = kWidth / static_cast<int>(sizeof(T));
  typedef T Counts __attribute__((vector_size(kWidth), may_alias));
  typedef int32_t Indices __attribute__((vector_size(kLanes * sizeof(int32_t)), may_alias));
  for (int first = 0; first < kBlock; first += kLanes) {
    Counts highest = *reinterpret_cast<const Counts*>(counts + first), index = {};
    for (int64_t c = 1; c < classes; ++c) {
      const Counts value = *reinterpret_cast<const Counts*>(counts + c * kBlock + first);
      const Counts above = value > highest;
      highest = above ? value : highest;
      index = above ? splat<Counts>(static_cast<T>(c)) : index;
    }
    *reinterpret_cast<Indices*>(best + first) = __builtin_convertvector(index, Indices);
  }
}

}  // namespace

extern const Kernels LGN_OF_SET(Kernels);
const Kernels LGN_OF_SET(Kernels) = {
    pack, interpret, count_ones, read_planes<int16_t>, read_planes<int32_t>, argmax<int16_t>, argmax<int32_t>,
};

}  // namespace lgn
