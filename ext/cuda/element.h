// What one thread computes, for host and device alike: tests run these functions without a GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LGN_HD __host__ __device__ __forceinline__
#else
#define LGN_HD inline
#endif

namespace lgn::cuda {

// Storage types of 16 bits, bits only: cuda_fp16.h and cuda_bf16.h would cost more compile time than all kernels.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

LGN_HD float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
LGN_HD uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

LGN_HD float widen(float x) { return x; }
LGN_HD double widen(double x) { return x; }
LGN_HD float widen(BF16 x) { return float_of_bits(uint32_t{x.bits} << 16); }
LGN_HD float widen(F16 x) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
#else
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // Shifted into place the exponent is 112 too small; the product also makes subnormals normal.
  return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 5.192296858534828e+33f));
#endif
}

// Rounds to nearest, ties to even.
LGN_HD void narrow(float x, float& to) { to = x; }
LGN_HD void narrow(double x, double& to) { to = x; }
LGN_HD void narrow(float x, BF16& to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
  const uint32_t bits = bits_of_float(x);
  to.bits = x != x ? uint16_t{0x7fff} : static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
#endif
}
LGN_HD void narrow(float x, F16& to) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
  const uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  uint32_t half;
  if (rest >= 0x7f800000u) {
    half = rest > 0x7f800000u ? 0x7fffu : 0x7c00u;
  } else if (rest >= 0x477ff000u) {  // rounds past the largest
    half = 0x7c00u;
  } else if (rest < 0x38800000u) {  // subnormal: the addition rounds at its last bit
    half = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000u;
  } else {
    half = (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1)) >> 13;
  }
  to.bits = static_cast<uint16_t>(sign | half);
#endif
}

// A gate as c0 + c1·a + c2·b + c3·ab, from its table (t00, t01, t10, t11); swapped, it is the gate of (b, a).
template <typename S>
struct alignas(16) Gate {
  S c0, c1, c2, c3;
};
template <typename S>
LGN_HD Gate<S> gate_of(const S (&table)[4], bool swapped) {
  const S t01 = swapped ? table[2] : table[1], t10 = swapped ? table[1] : table[2];
  return {table[0], t10 - table[0], t01 - table[0], table[3] - t10 - t01 + table[0]};
}
template <typename S>
LGN_HD S evaluate(const Gate<S>& gate, S a, S b) {
  return (gate.c3 * a + gate.c2) * b + (gate.c1 * a + gate.c0);
}
template <typename S>
LGN_HD S slope_a(const Gate<S>& gate, S b) {
  return gate.c3 * b + gate.c1;
}
template <typename S>
LGN_HD S slope_b(const Gate<S>& gate, S a) {
  return gate.c3 * a + gate.c2;
}

// Sums of g, g·a, g·b and g·a·b over samples, and the gradient of the table that follows.
template <typename S>
struct TableSums {
  S g = 0, ga = 0, gb = 0, gab = 0;
  LGN_HD void add(S grad, S a, S b) {
    const S left = grad * a;
    g += grad;
    ga += left;
    gb += grad * b;
    gab += left * b;
  }
  LGN_HD void entries(bool swapped, S (&out)[4]) const {
    const S only_a = ga - gab, only_b = gb - gab;
    out[0] = g - ga - only_b;
    out[1] = swapped ? only_a : only_b;
    out[2] = swapped ? only_b : only_a;
    out[3] = gab;
  }
};

// A hard gate on 32 samples, m0 ^ (a & ma) ^ (b & mb) ^ (a & b & mab): no branch on its id.
struct alignas(16) BitGate {
  uint32_t m0, ma, mb, mab;
};
LGN_HD BitGate bit_gate_of(uint32_t id) {
  const uint32_t t00 = id >> 3 & 1, t01 = id >> 2 & 1, t10 = id >> 1 & 1, t11 = id & 1;
  return {0u - t00, 0u - (t00 ^ t10), 0u - (t00 ^ t01), 0u - (t00 ^ t01 ^ t10 ^ t11)};
}
LGN_HD uint32_t evaluate(const BitGate& gate, uint32_t a, uint32_t b) {
  return gate.m0 ^ (a & gate.ma) ^ (b & (gate.mb ^ (a & gate.mab)));
}
// Bit i as 0 or 1, in fewer cycles than a conversion takes.
LGN_HD float bit_value(uint32_t bits, int i) { return float_of_bits((bits >> i & 1) * 0x3f800000u); }

// A tree of gates on n leaves: nodes 0 … n-1 are the leaves, node n + j is gate j on the nodes 2j and 2j + 1.
template <typename G, typename S, int Nodes>
LGN_HD void evaluate_tree(const G* gates, int n, S (&node)[Nodes]) {
#pragma unroll
  for (int j = 0; j < n - 1; j++) node[n + j] = evaluate(gates[j], node[2 * j], node[2 * j + 1]);
}
// From the gradient of the root to those of all nodes, adding to the sums of each gate.
template <typename S, int Nodes, int Gates>
LGN_HD void differentiate_tree(const Gate<S>* slopes, int n, const S (&node)[Nodes], S (&grad)[Nodes],
                               TableSums<S> (&sums)[Gates]) {
#pragma unroll
  for (int j = n - 2; j >= 0; j--) {
    const S a = node[2 * j], b = node[2 * j + 1], g = grad[n + j];
    sums[j].add(g, a, b);
    grad[2 * j] = g * slope_a(slopes[j], b);
    grad[2 * j + 1] = g * slope_b(slopes[j], a);
  }
}

// The softmax of a gate is shared by four threads: thread q has logits 4q … 4q+3. Whether gate k is 1 for table entry e
// is bit 3-e of k, so that entries 0 and 1 depend on q alone and entries 2 and 3 on the place within the four.
template <typename S>
LGN_HD void table_share(const S (&p)[4], int q, S (&entry)[4]) {
  const S all = p[0] + p[1] + p[2] + p[3];
  entry[0] = q & 2 ? all : S{0};
  entry[1] = q & 1 ? all : S{0};
  entry[2] = p[2] + p[3];
  entry[3] = p[1] + p[3];
}
// Gradient of the logits from their probabilities, the gradient of the table and the mean of that under the softmax.
template <typename S>
LGN_HD void logit_gradients(const S (&p)[4], int q, const S (&grad)[4], S mean, S (&out)[4]) {
  const S base = (q & 2 ? grad[0] : S{0}) + (q & 1 ? grad[1] : S{0}) - mean;
  out[0] = p[0] * base;
  out[1] = p[1] * (base + grad[3]);
  out[2] = p[2] * (base + grad[2]);
  out[3] = p[3] * (base + grad[2] + grad[3]);
}

// Adds words to 32 counters at once, bit i of every counter in plane i: up to kBitCounterMax words.
constexpr int kBitPlanes = 8;
constexpr int kBitCounterMax = 254;
struct BitCounters {
  uint32_t plane[kBitPlanes] = {};
  LGN_HD void add(uint32_t u, uint32_t v) {
    const uint32_t p = plane[0];
    uint32_t carry = (p & u) | (v & (p | u));
    plane[0] = p ^ u ^ v;
    for (int i = 1; i < kBitPlanes; i++) {
      const uint32_t next = plane[i] & carry;
      plane[i] ^= carry;
      carry = next;
    }
  }
  LGN_HD int32_t count(int bit) const {
    uint32_t sum = 0;
    for (int i = 0; i < kBitPlanes; i++) sum |= (plane[i] >> bit & 1) << i;
    return static_cast<int32_t>(sum);
  }
};

}  // namespace lgn::cuda
