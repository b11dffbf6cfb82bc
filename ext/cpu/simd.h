// Vectors of the instruction set that this file is compiled for, and the storage types on top of them.
//
// Everything is in an anonymous namespace: the linker must never merge code of two instruction sets.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define LGN_INLINE inline __attribute__((always_inline))

namespace lgn {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLineVectors = static_cast<int>(kLineBytes) / kVectorBytes;

typedef float VecF __attribute__((vector_size(kVectorBytes)));
typedef double VecD __attribute__((vector_size(kVectorBytes)));
typedef int32_t VecI __attribute__((vector_size(kVectorBytes)));
typedef uint32_t VecU __attribute__((vector_size(kVectorBytes)));
typedef int64_t VecL __attribute__((vector_size(kVectorBytes)));

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef VecF Vec;
  typedef VecI Int;
};
template <>
struct VectorOf<double> {
  typedef VecD Vec;
  typedef VecL Int;
};
template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// Contraction is off (-ffp-contract=off), so that every instantiation rounds alike; this is where it happens.
LGN_INLINE VecF fma(VecF a, VecF b, VecF c) {
#if defined(__AVX512F__)
  return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (VecF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
LGN_INLINE VecD fma(VecD a, VecD b, VecD c) { return a * b + c; }

LGN_INLINE VecF select(VecI mask, VecF a, VecF b) { return (VecF)((mask & (VecI)a) | (~mask & (VecI)b)); }

// Bit `lane` of the result is set where the lane of a mask is.
LGN_INLINE uint32_t lanes_set(VecI mask) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes<float>; lane++) bits |= (static_cast<uint32_t>(mask[lane]) & 1) << lane;
  return bits;
#endif
}

template <typename V>
LGN_INLINE V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}
template <typename V>
LGN_INLINE void store(void* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}
// A store that does not fetch the line first; p is aligned.
template <typename V>
LGN_INLINE void stream(void* p, V v) {
#if defined(__AVX512F__)
  _mm512_stream_si512((__m512i*)p, (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256((__m256i*)p, (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128((__m128i*)p, (__m128i)v);
#else
  store(p, v);
#endif
}
LGN_INLINE void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Index of lane `lane` in the concatenation of x and y, for two shuffles that together exchange x's lanes with bit S
// set and y's lanes with bit S clear: the step of a transposition, and of a sum across lanes.
template <int W, int S>
struct LowPart {
  static constexpr int at(int lane) { return lane & S ? W + lane - S : lane; }
};
template <int W, int S>
struct HighPart {
  static constexpr int at(int lane) { return lane & S ? W + lane : lane + S; }
};
template <int W, int S>
struct Blend {
  static constexpr int at(int lane) { return lane & S ? W + lane : lane; }
};
template <int W, int S>
struct Cross {
  static constexpr int at(int lane) { return lane & S ? W + lane - S : lane + S; }
};
template <int W, int S>
struct Fold {
  static constexpr int at(int lane) { return lane ^ S; }
};

template <typename Index, int... I>
LGN_INLINE VecF shuffle(VecF x, VecF y, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, Index::at(I)...);
#else
  return __builtin_shuffle(x, y, VecI{Index::at(I)...});
#endif
}
template <template <int, int> class Index, int S>
LGN_INLINE VecF shuffle(VecF x, VecF y) {
  constexpr int kW = kLanes<float>;
  return shuffle<Index<kW, S>>(x, y, std::make_integer_sequence<int, kW>{});
}
template <int S>
LGN_INLINE VecF combine(VecF x, VecF y) {
  return shuffle<Blend, S>(x, y) + shuffle<Cross, S>(x, y);
}

// Sums of four vectors into out[0 … 3].
LGN_INLINE void sum_lanes(const VecF (&v)[4], float* out) {
  VecF q = combine<2>(combine<1>(v[0], v[1]), combine<1>(v[2], v[3]));
  if constexpr (kLanes<float> >= 8) q += shuffle<Fold, 4>(q, q);
  if constexpr (kLanes<float> >= 16) q += shuffle<Fold, 8>(q, q);
  std::memcpy(out, &q, 16);
}
LGN_INLINE void sum_lanes(const VecF (&v)[8], float* out) {
  if constexpr (kLanes<float> == 4) {
    const VecF low[4] = {v[0], v[1], v[2], v[3]}, high[4] = {v[4], v[5], v[6], v[7]};
    sum_lanes(low, out);
    sum_lanes(high, out + 4);
  } else {
    VecF q = combine<4>(combine<2>(combine<1>(v[0], v[1]), combine<1>(v[2], v[3])),
                        combine<2>(combine<1>(v[4], v[5]), combine<1>(v[6], v[7])));
    if constexpr (kLanes<float> == 16) q += shuffle<Fold, 8>(q, q);
    std::memcpy(out, &q, 32);
  }
}
template <int N>
LGN_INLINE void sum_lanes(const VecD (&v)[N], double* out) {
  for (int k = 0; k < N; k++) {
    out[k] = 0;
    for (int lane = 0; lane < kLanes<double>; lane++) out[k] += v[k][lane];
  }
}

struct Bf16 {
  uint16_t bits;
};

// How a vector of stored elements becomes kParts vectors of sums; part() gives one of them.
template <typename S>
struct Storage {
  typedef S Sum;
  typedef typename VectorOf<S>::Vec Vec;
  static constexpr int kParts = 1;
  static LGN_INLINE void unpack(const void* p, Vec* v) { v[0] = load<Vec>(p); }
  static LGN_INLINE Vec part(const void* p, int) { return load<Vec>(p); }
  static LGN_INLINE Vec pack(const Vec* v) { return v[0]; }
  static int64_t slot(int64_t sample) { return sample; }
};

// Even samples in the first vector and odd ones in the second: shifts and masks only, no move across lanes.
template <>
struct Storage<Bf16> {
  typedef float Sum;
  typedef VecF Vec;
  static constexpr int kParts = 2;
  static LGN_INLINE void unpack(const void* p, Vec* v) {
    const VecU u = load<VecU>(p);
    v[0] = (VecF)(u << 16);
    v[1] = (VecF)(u & 0xffff0000u);
  }
  static LGN_INLINE Vec part(const void* p, int u) {
    const VecU both = load<VecU>(p);
    return (VecF)(u ? both & 0xffff0000u : both << 16);
  }
  static LGN_INLINE VecU round(VecF f) {  // to nearest even; a NaN stays one
    const VecU u = (VecU)f;
    const VecU nan = (VecU)(f != f);
    return ((u + 0x7fffu + ((u >> 16) & 1u)) & ~nan) | ((u | 0x400000u) & nan);
  }
  static LGN_INLINE VecU pack(const Vec* v) { return (round(v[0]) >> 16) | (round(v[1]) & 0xffff0000u); }
  static int64_t slot(int64_t sample) {
    const int64_t span = kVectorBytes / 2, inside = sample % span;
    return sample - inside + (inside & 1) * kLanes<float> + inside / 2;
  }
};

// All bits set in the lanes of a tile's last line that hold samples.
template <typename S>
struct TailMask {
  static constexpr int kVectors = kLineVectors * Storage<S>::kParts;
  typedef typename VectorOf<typename Storage<S>::Sum>::Int Int;
  Int mask[kVectors];
  explicit TailMask(const Tile& tile) {
    constexpr int kLineSamples = static_cast<int>(kLineBytes / sizeof(S));
    const int64_t valid = tile.samples - (tile.lines - 1) * kLineSamples;
    constexpr int kW = kLanes<typename Storage<S>::Sum>;
    for (int s = 0; s < kLineSamples; s++) {
      const int64_t slot = Storage<S>::slot(s);
      mask[slot / kW][slot % kW] = s < valid ? -1 : 0;
    }
  }
};

template <typename V, typename I>
LGN_INLINE V masked(V v, I mask) {
  return (V)((I)v & mask);
}

}  // namespace
}  // namespace lgn
