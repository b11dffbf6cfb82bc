// Straight-through layers on packed samples: hard gates forward, soft gradients backward from the bits alone.
//
// A row of packed samples is a string of bytes as in bits.h, but padded to kBitRowBytes only: at usual batch sizes
// the activations of a layer then stay in the second-level cache. Sums and gradients are float.
#pragma once

#include "bits_lanes.h"
#include "bits_simd.h"
#include "dense_simd.h"
#include "dense_softmax.h"
#include "straight_through_learned.h"

namespace lgn {
namespace {

typedef uint32_t VecBits __attribute__((vector_size(kBitRowBytes)));

// Rows of reals to bits: whether the value is above one half. Rows are padded to whole lines, bits past the samples 0.
void pack_reals(const char* x, int64_t x_pitch, int64_t samples, int64_t begin, int64_t end, uint8_t* out,
                int64_t pitch) {
  for (int64_t r = begin; r < end; r++) {
    uint8_t* to = out + r * pitch;
    std::memset(to, 0, static_cast<size_t>(pitch));
    for (int64_t s = 0; s < samples; s += kW) {
      uint32_t bits = lanes_above(load<VecF>(x + r * x_pitch + s * static_cast<int64_t>(sizeof(float))), 0.5f);
      if (samples - s < kW) bits &= (1u << (samples - s)) - 1;
      if constexpr (kW == 16) {
        const uint16_t word = static_cast<uint16_t>(bits);
        std::memcpy(to + s / 8, &word, sizeof(word));
      } else {
        to[s / 8] = static_cast<uint8_t>(to[s / 8] | bits << (s % 8));
      }
    }
  }
}

// Ids of the gates that logits settle on: entries with a positive logit are 1, or with 16 logits a gate the largest
// one.
void gate_ids(const float* logits, int64_t width, int64_t begin, int64_t end, uint8_t* ids) {
  constexpr uint8_t kReversed[16] = {0, 8, 4, 12, 2, 10, 6, 14,
                                     1, 9, 5, 13, 3, 11, 7, 15};  // entry 0 is the highest bit
  int64_t g = begin;
  if (width == 4) {
    for (; g + kW / 4 <= end; g += kW / 4) {
      const uint32_t bits = lanes_above(load<VecF>(logits + 4 * g), 0.0f);
      for (int k = 0; k < kW / 4; k++) ids[g + k] = kReversed[bits >> (4 * k) & 15];
    }
    for (; g < end; g++) {
      uint32_t id = 0;
      for (int e = 0; e < 4; e++) id = id * 2 + (logits[4 * g + e] > 0);
      ids[g] = static_cast<uint8_t>(id);
    }
  } else {
    for (; g < end; g++) {
      const float* p = logits + width * g;
      int64_t best = 0;
      bool has_nan = p[0] != p[0];
      for (int64_t k = 1; k < width; k++) {
        best = p[k] > p[best] ? k : best;
        has_nan |= p[k] != p[k];
      }
      // A NaN is the largest, as for torch's argmax.
      for (int64_t k = width - 1; has_nan && k >= 0; k--) best = p[k] != p[k] ? k : best;
      ids[g] = static_cast<uint8_t>(best);
    }
  }
}

LGN_INLINE VecF sigmoid(VecF x) {
  const VecF e = exp_negative(select(x > 0, -x, x)), s = 1.0f / (1.0f + e);
  return select(x == x, select(x > 0, s, e * s), x);  // a NaN stays one
}
void sigmoids(const float* logits, int64_t begin, int64_t end, float* out) {
  int64_t k = begin;
  for (; k + kW <= end; k += kW) store(out + k, sigmoid(load<VecF>(logits + k)));
  if (k == end) return;
  VecF last{};
  std::memcpy(&last, logits + k, static_cast<size_t>(end - k) * sizeof(float));
  last = sigmoid(last);
  std::memcpy(out + k, &last, static_cast<size_t>(end - k) * sizeof(float));
}
void sigmoids_backward(const float* sigmoids, int64_t begin, int64_t end, float* grad) {
  int64_t k = begin;
  for (; k + kW <= end; k += kW) {
    const VecF s = load<VecF>(sigmoids + k);
    store(grad + k, load<VecF>(grad + k) * (s * (1.0f - s)));
  }
  for (; k < end; k++) grad[k] *= sigmoids[k] * (1.0f - sigmoids[k]);
}

void bit_forward(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                 int64_t begin, int64_t end, uint8_t* y, int64_t y_pitch) {
  if (y_pitch % kVectorBytes == 0) return logic_bits(x, x_pitch, gates, a, b, begin, end, y, y_pitch);
  for (int64_t g = begin; g < end; g++) {
    const uint32_t id = gates[g], t00 = id >> 3 & 1, t01 = id >> 2 & 1, t10 = id >> 1 & 1, t11 = id & 1;
    const VecBits m0 = VecBits{} - t00, mi = VecBits{} - (t00 ^ t10), mj = VecBits{} - (t00 ^ t01),
                  mij = VecBits{} - (t00 ^ t01 ^ t10 ^ t11);
    for (int64_t byte = 0; byte < y_pitch; byte += kBitRowBytes) {
      const VecBits l = load<VecBits>(x + a[g] * x_pitch + byte), r = load<VecBits>(x + b[g] * x_pitch + byte);
      store(y + g * y_pitch + byte, m0 ^ (l & mi) ^ (r & (mj ^ (l & mij))));
    }
  }
}

// The walk of backward_lines (dense_simd.h), with x as bits: what a bit multiplies becomes a choice by a mask.
template <int N, bool kGradX>
void bit_backward_lines(const uint8_t* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                        const float* table, float factor, const Step* steps, int64_t count, const GradRows& grad_x,
                        const TableRows& grad_table, const Tile& tile, bool streaming) {
  constexpr int kMaxVectors = (N ? N : kTileLines) * kLineVectors;
  const int lines = N ? N : tile.lines;
  const int vectors = lines * kLineVectors;
  x += tile.offset / (kLineBytes / 2);  // a line of 16 floats is 2 bytes of bits
  const int32_t* side = grad_x.side;
  char *gi = nullptr, *gj = nullptr;
  VecF carry[kMaxVectors];  // the gradient of row i so far
  for (int v = 0; v < vectors; v++) carry[v] = VecF{};
  for (int64_t p = 0; p < count; p++) {
    const Step step = steps[p];
    const int64_t row =
        group ? static_cast<int64_t>(static_cast<uint32_t>(step.gate) / static_cast<uint32_t>(group)) : step.gate;
    if (p + kAhead < count) {
      const Step& next = steps[p + kAhead];
      if (!group) prefetch_read(grad + next.gate * grad_pitch, lines);
      if (kGradX && !streaming) prefetch_write(grad_x.data + next.j * grad_x.pitch, lines);
      // These lie in the second-level cache, but a gate is too long for the processor to look ahead by itself.
      prefetch_read(reinterpret_cast<const char*>(x + next.j * x_pitch), 1);
      prefetch_read(reinterpret_cast<const char*>(table + 4 * static_cast<int64_t>(next.gate)), 1);
      prefetch_write(static_cast<const char*>(grad_table.data) + 16 * static_cast<int64_t>(next.gate), 1);
    }
    const uint8_t* xi = x + step.i * x_pitch;
    const uint8_t* xj = x + step.j * x_pitch;
    const char* g = grad + row * grad_pitch;
    if constexpr (kGradX) {
      gi = gj;
      if (step.flags & kStart) {
        gi = grad_x.data + (step.flags & kSideI ? *side++ : step.i) * grad_x.pitch;
        for (int v = 0; v < vectors; v++) {
          carry[v] = step.flags & kFirstI ? VecF{} : load<VecF>(gi + v * kVectorBytes);
        }
      }
      gj = grad_x.data + (step.flags & kSideJ ? *side++ : step.j) * grad_x.pitch;
    }
    const float* t = table + 4 * static_cast<int64_t>(step.gate);
    const int64_t swap = step.flags & kSwap;
    const Slope in_i(t, swap, factor), in_j(t, 1 - swap, factor);
    VecF s[4] = {};
    const auto give = [&](char* to, VecF sum)
                          __attribute__((always_inline)) { streaming ? stream(to, sum) : store(to, sum); };
    const auto body = [&](int v, bool fresh) __attribute__((always_inline)) {
      const VecF gv = load<VecF>(g + v * kVectorBytes);
      const LaneMask i = lane_mask(xi, v), j = lane_mask(xj, v);
      s[0] += gv;
      s[1] = add_where(s[1], i, gv);
      s[2] = add_where(s[2], j, gv);
      s[3] = add_where(s[3], both(i, j), gv);
      if constexpr (kGradX) {
        give(gi + v * kVectorBytes, fma(gv, choose(j, in_i.set, in_i.clear), carry[v]));
        carry[v] = fma(gv, choose(i, in_j.set, in_j.clear), fresh ? VecF{} : load<VecF>(gj + v * kVectorBytes));
      }
    };
    if (!kGradX || (step.flags & kFirstJ)) {
      for (int v = 0; v < vectors; v++) body(v, true);
    } else {
      for (int v = 0; v < vectors; v++) body(v, false);
    }
    if (kGradX && (step.flags & kLast)) {
      for (int v = 0; v < vectors; v++) give(gj + v * kVectorBytes, carry[v]);
    }
    float total[4];  // of g, g·x_i, g·x_j, g·x_i·x_j
    sum_lanes(s, total);
    give_table_gradient(total, step, grad_table);
  }
  if (kGradX && streaming) stream_fence();
}

void bit_backward(const uint8_t* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                  const float* table, float factor, const Step* steps, int64_t count, const GradRows& grad_x,
                  const TableRows& grad_table, const Tile& tile, bool streaming) {
  for_lines<float>(tile.lines, [&](auto n) {
    const auto run = grad_x.data ? &bit_backward_lines<n, true> : &bit_backward_lines<n, false>;
    run(x, x_pitch, grad, grad_pitch, group, table, factor, steps, count, grad_x, grad_table, tile, streaming);
  });
}

constexpr BitLayerKernels bit_layer_kernels() {
  return {&pack_reals, &gate_ids, &sigmoids, &sigmoids_backward, &bit_forward, &bit_backward, &bit_pull, &bit_learned};
}

}  // namespace
}  // namespace lgn
