// The lanes of a vector of samples by their packed bits.
#pragma once

#include "simd.h"

namespace lgn {
namespace {

// Bits of the lanes of one vector, and what they decide.
#if defined(__AVX512F__)
typedef __mmask16 LaneMask;
LGN_INLINE LaneMask lane_mask(const uint8_t* bits, int vector) {
  // In one instruction: compilers go by way of a general register, which costs a quarter of a step.
  LaneMask mask;
  __asm__("kmovw %1, %0" : "=k"(mask) : "m"(*reinterpret_cast<const LaneMask*>(bits + 2 * vector)));
  return mask;
}
LGN_INLINE uint32_t lanes_above(VecF v, float level) {
  return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(level), _CMP_GT_OQ);
}
LGN_INLINE LaneMask both(LaneMask a, LaneMask b) { return static_cast<LaneMask>(a & b); }
LGN_INLINE VecF add_where(VecF sum, LaneMask mask, VecF v) {
  return (VecF)_mm512_mask_add_ps((__m512)sum, mask, (__m512)sum, (__m512)v);
}
LGN_INLINE VecF choose(LaneMask mask, VecF set, VecF clear) {
  return (VecF)_mm512_mask_blend_ps(mask, (__m512)clear, (__m512)set);
}
#else
typedef VecI LaneMask;
constexpr int kLaneBits = kLanes<float>;  // 4 or 8: half a byte, or a whole one
LGN_INLINE LaneMask lane_mask(const uint8_t* bits, int vector) {
  const int bit = vector * kLaneBits;
  VecI weight;
  for (int lane = 0; lane < kLaneBits; lane++) weight[lane] = 1 << lane;
  return ((VecI{} + (bits[bit / 8] >> (bit % 8))) & weight) == weight;
}
LGN_INLINE uint32_t lanes_above(VecF v, float level) {
  uint32_t bits = 0;
  for (int lane = 0; lane < kLaneBits; lane++) bits |= uint32_t{v[lane] > level} << lane;
  return bits;
}
LGN_INLINE LaneMask both(LaneMask a, LaneMask b) { return a & b; }
LGN_INLINE VecF add_where(VecF sum, LaneMask mask, VecF v) { return sum + masked(v, mask); }
LGN_INLINE VecF choose(LaneMask mask, VecF set, VecF clear) { return select(mask, set, clear); }
#endif

// Of one gate with the table `t`: the gradient of an input is that of the output times the slope, by the bit of the
// other input. Side 0 is the first input. (x - 0 is x, so that spreading a number over a vector computes nothing.)
struct Slope {
  VecF clear, set;
  LGN_INLINE Slope(const float* t, int64_t side, float factor)
      : clear(factor * (t[2 - side] - t[0]) - VecF{}), set(factor * (t[3] - t[1 + side]) - VecF{}) {}
};

}  // namespace
}  // namespace lgn
