// The softmax over a gate's 16 logits, collapsed to its table: entry t_ab is the probability of all gates that are 1 at
// ab.
#pragma once

#include <cmath>

#include "simd.h"

namespace lgn {
namespace {

constexpr int kGateLogits = 16;
constexpr int kW = kLanes<float>;

// exp of x ≤ 0 to about one unit in the last place (Cephes' polynomial); NaN of NaN.
LGN_INLINE VecF exp_negative(VecF given) {
  const VecF x = select(given > -87.0f, given, VecF{} - 87.0f);
  const VecF t = fma(x, VecF{} + 1.44269504088896341f, VecF{} + 12582912.0f);  // rounds to an integer in the low bits
  const VecI n = (VecI)t - 0x4B400000;
  const VecF whole = t - 12582912.0f;
  VecF r = fma(whole, VecF{} - 0.693359375f, x);
  r = fma(whole, VecF{} + 2.12194440e-4f, r);
  VecF p = VecF{} + 1.9875691500e-4f;
  p = fma(p, r, VecF{} + 1.3981999507e-3f);
  p = fma(p, r, VecF{} + 8.3334519073e-3f);
  p = fma(p, r, VecF{} + 4.1665795894e-2f);
  p = fma(p, r, VecF{} + 1.6666665459e-1f);
  p = fma(p, r, VecF{} + 5.0000001201e-1f);
  p = fma(p, r * r, r) + 1.0f;
  return select(given == given, (VecF)((VecI)p + (n << 23)), given);
}

template <int S>
LGN_INLINE void exchange(VecF* m) {
  for (int i = 0; i < kW; i++) {
    if (i & S) continue;
    const VecF x = m[i], y = m[i + S];
    m[i] = shuffle<LowPart, S>(x, y);
    m[i + S] = shuffle<HighPart, S>(x, y);
  }
}
LGN_INLINE void transpose_square(VecF* m) {
  exchange<1>(m);
  exchange<2>(m);
  if constexpr (kW >= 8) exchange<4>(m);
  if constexpr (kW >= 16) exchange<8>(m);
}

// A block is kW gates. Gates sit in lanes in the order that makes a [kW][4] table in memory four vectors that transpose
// within their quarters: lane 4q + r holds gate gate_of_lane(4q + r) of the block.
constexpr int gate_of_lane(int lane) { return kW / 4 * (lane & 3) + (lane >> 2); }

// Logits of a block: rows of 16 in memory, and m[k] = logit k of every gate in registers. Missing gates are 0.
LGN_INLINE void load_logits(const float* p, int64_t gates, VecF* m) {
  for (int block = 0; block < kGateLogits; block += kW) {
    for (int lane = 0; lane < kW; lane++) {
      const int g = gate_of_lane(lane);
      m[block + lane] = g < gates ? load<VecF>(p + g * kGateLogits + block) : VecF{};
    }
    transpose_square(m + block);
  }
}
LGN_INLINE void store_logits(float* p, int64_t gates, VecF* m) {
  for (int block = 0; block < kGateLogits; block += kW) {
    transpose_square(m + block);
    for (int lane = 0; lane < kW; lane++) {
      const int g = gate_of_lane(lane);
      if (g < gates) store(p + g * kGateLogits + block, m[block + lane]);
    }
  }
}
LGN_INLINE void transpose_quarters(VecF (&t)[4]) {
  for (int e = 0; e < 4; e += 2) {
    const VecF x = t[e], y = t[e + 1];
    t[e] = shuffle<LowPart, 1>(x, y);
    t[e + 1] = shuffle<HighPart, 1>(x, y);
  }
  for (int e = 0; e < 2; e++) {
    const VecF x = t[e], y = t[e + 2];
    t[e] = shuffle<LowPart, 2>(x, y);
    t[e + 2] = shuffle<HighPart, 2>(x, y);
  }
}
// The table of a block, [kW][4] in memory, as one vector an entry.
LGN_INLINE void load_table(const float* p, int64_t gates, VecF (&t)[4]) {
  float copy[4 * kW] = {};
  if (gates < kW) std::memcpy(copy, p, static_cast<size_t>(gates) * 4 * sizeof(float));
  for (int e = 0; e < 4; e++) t[e] = load<VecF>((gates < kW ? copy : p) + e * kW);
  transpose_quarters(t);
}
LGN_INLINE void store_table(float* p, int64_t gates, VecF (&t)[4]) {
  float copy[4 * kW];
  transpose_quarters(t);
  for (int e = 0; e < 4; e++) store((gates < kW ? copy : p) + e * kW, t[e]);
  if (gates < kW) std::memcpy(p, copy, static_cast<size_t>(gates) * 4 * sizeof(float));
}

// The table of each gate from the probabilities.
LGN_INLINE void collapse(const VecF* m, VecF (&table)[4]) {
  for (int e = 0; e < 4; e++) table[e] = VecF{};
  for (int k = 0; k < kGateLogits; k++) {
    for (int e = 0; e < 4; e++) {
      if (k >> (3 - e) & 1) table[e] += m[k];
    }
  }
}

// Replaces logits by probabilities.
LGN_INLINE void softmax(VecF* m) {
  VecF top = m[0];
  for (int k = 1; k < kGateLogits; k++) top = select(m[k] > top, m[k], top);
  VecF sum = {};
  for (int k = 0; k < kGateLogits; k++) sum += m[k] = exp_negative(m[k] - top);
  const VecF scale = 1.0f / sum;
  for (int k = 0; k < kGateLogits; k++) m[k] *= scale;
}

static_assert(kSoftmaxGates % kW == 0);

void softmax_table_f32(const void* logits, int64_t begin, int64_t end, void* table, void* kept) {
  for (int64_t g = begin; g < end; g += kW) {
    const int64_t gates = end - g < kW ? end - g : kW;
    VecF m[kGateLogits], t[4];
    load_logits(static_cast<const float*>(logits) + g * kGateLogits, gates, m);
    softmax(m);
    collapse(m, t);
    for (int k = 0; kept != nullptr && k < kGateLogits; k++) {
      store(static_cast<float*>(kept) + g * kGateLogits + k * kW, m[k]);
    }
    store_table(static_cast<float*>(table) + 4 * g, gates, t);
  }
}

void softmax_table_backward_f32(const void* grad, const void* logits, const void* kept, int64_t begin, int64_t end,
                                void* out) {
  for (int64_t g = begin; g < end; g += kW) {
    const int64_t gates = end - g < kW ? end - g : kW;
    VecF m[kGateLogits], t[4], d[4];
    if (kept == nullptr) {
      load_logits(static_cast<const float*>(logits) + g * kGateLogits, gates, m);
      softmax(m);
    } else {
      for (int k = 0; k < kGateLogits; k++) {
        m[k] = load<VecF>(static_cast<const float*>(kept) + g * kGateLogits + k * kW);
      }
    }
    collapse(m, t);
    load_table(static_cast<const float*>(grad) + 4 * g, gates, d);
    VecF mean = {};
    for (int e = 0; e < 4; e++) mean = fma(t[e], d[e], mean);
    for (int k = 0; k < kGateLogits; k++) {
      VecF of_gate = -mean;
      for (int e = 0; e < 4; e++) {
        if (k >> (3 - e) & 1) of_gate += d[e];
      }
      m[k] *= of_gate;
    }
    store_logits(static_cast<float*>(out) + g * kGateLogits, gates, m);
  }
}

#if defined(LGN_WITH_F64)
void softmax_f64(const double* logits, double (&p)[kGateLogits], double (&table)[4]) {
  double top = logits[0], sum = 0;
  for (int k = 1; k < kGateLogits; k++) top = logits[k] > top ? logits[k] : top;
  for (int k = 0; k < kGateLogits; k++) sum += p[k] = __builtin_exp(logits[k] - top);
  for (int e = 0; e < 4; e++) table[e] = 0;
  for (int k = 0; k < kGateLogits; k++) {
    p[k] /= sum;
    for (int e = 0; e < 4; e++) table[e] += k >> (3 - e) & 1 ? p[k] : 0;
  }
}

void softmax_table_f64(const void* logits, int64_t begin, int64_t end, void* table, void*) {
  for (int64_t g = begin; g < end; g++) {
    double p[kGateLogits], t[4];
    softmax_f64(static_cast<const double*>(logits) + g * kGateLogits, p, t);
    std::memcpy(static_cast<double*>(table) + 4 * g, t, sizeof(t));
  }
}

void softmax_table_backward_f64(const void* grad, const void* logits, const void*, int64_t begin, int64_t end,
                                void* out) {
  for (int64_t g = begin; g < end; g++) {
    const double* d = static_cast<const double*>(grad) + 4 * g;
    double p[kGateLogits], t[4], mean = 0;
    softmax_f64(static_cast<const double*>(logits) + g * kGateLogits, p, t);
    for (int e = 0; e < 4; e++) mean += t[e] * d[e];
    for (int k = 0; k < kGateLogits; k++) {
      double of_gate = -mean;
      for (int e = 0; e < 4; e++) of_gate += k >> (3 - e) & 1 ? d[e] : 0;
      static_cast<double*>(out)[g * kGateLogits + k] = p[k] * of_gate;
    }
  }
}

#endif

}  // namespace
}  // namespace lgn
