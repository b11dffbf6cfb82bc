// Lookup tables of k inputs on real values: multilinear interpolation, one input after the other.
//
// The table is a complete binary tree: node n has the children 2n and 2n + 1, where the input of its level is 0 and 1,
// and entry e is leaf 2^k + e. A node's value is low + x·(high - low). The last four inputs, or all there are, make
// subtrees that fit the registers; one or two inputs above them choose among two or four of these.
#pragma once

#include "straight_through_simd.h"

namespace lgn {
namespace {

constexpr int kLutLow = 4;             // inputs of a subtree, at most
constexpr int kLutTops = 4;            // subtrees, at most
constexpr int64_t kLutAhead = 2;       // gates that rows are asked for ahead of their use
constexpr int kLutRows = kLutLow + 2;  // inputs, at most

constexpr int level_of(int node) {
  int level = 0;
  while (node >> (level + 1)) level++;
  return level;
}

template <int L, typename Vec, typename Sum>
LGN_INLINE Vec lut_value(const Sum* t, const Vec* x) {
  if constexpr (L == 1) {
    return fma(Vec{} + (t[1] - t[0]), x[0], Vec{} + t[0]);
  } else {
    const Vec low = lut_value<L - 1>(t, x + 1), high = lut_value<L - 1>(t + (1 << (L - 1)), x + 1);
    return fma(x[0], high - low, low);
  }
}

// Adds to gx, the gradients of L inputs, and to acc, those of the entries; gives the value.
template <int L, typename Vec, typename Sum>
LGN_INLINE Vec lut_gradients(const Sum* t, const Vec* x, Vec adjoint, Vec* gx, Vec* acc) {
  constexpr int kLeaves = 1 << L;
  Vec value[kLeaves], slope[kLeaves], adj[kLeaves];
#pragma GCC unroll 16
  for (int n = kLeaves - 1; n > 0; n--) {
    const int level = level_of(n);
    if (level == L - 1) {
      const Sum* pair = t + 2 * n - kLeaves;
      slope[n] = Vec{} + (pair[1] - pair[0]);
      value[n] = fma(slope[n], x[level], Vec{} + pair[0]);
    } else {
      slope[n] = value[2 * n + 1] - value[2 * n];
      value[n] = fma(slope[n], x[level], value[2 * n]);
    }
  }
  adj[1] = adjoint;
#pragma GCC unroll 16
  for (int n = 1; n < kLeaves; n++) {
    const int level = level_of(n);
    gx[level] = fma(adj[n], slope[n], gx[level]);
    const Vec high = adj[n] * x[level], low = adj[n] - high;
    if (level == L - 1) {
      acc[2 * n - kLeaves] += low;
      acc[2 * n + 1 - kLeaves] += high;
    } else {
      adj[2 * n] = low;
      adj[2 * n + 1] = high;
    }
  }
  return value[1];
}

LGN_INLINE void prefetch_lut(const LutLayer& layer, const char* x, int64_t pitch, int64_t gate, int lines) {
  for (int i = 0; i < layer.inputs; i++) prefetch_read(x + layer.indices[i * layer.gates + gate] * pitch, lines);
}

template <typename S, int L>
void lut_forward_low(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, int64_t begin,
                     int64_t end, char* y, int64_t y_pitch, const Tile& tile) {
  typedef typename Storage<S>::Vec Vec;
  const int top = layer.inputs - L, vectors = tile.lines * kLineVectors;
  for (int64_t g = begin; g < end; g++) {
    if (g + kLutAhead < end) prefetch_lut(layer, x + tile.offset, x_pitch, g + kLutAhead, tile.lines);
    const char* row[kLutRows];
    for (int i = 0; i < layer.inputs; i++) row[i] = x + layer.indices[i * layer.gates + g] * x_pitch + tile.offset;
    const S* t = static_cast<const S*>(table) + g * layer.entries();
    char* out = y + g * y_pitch + tile.offset;
    for (int v = 0; v < vectors; v++) {
      Vec low[L], values[kLutTops];
#pragma GCC unroll 4
      for (int i = 0; i < L; i++) low[i] = load<Vec>(row[top + i] + v * kVectorBytes);
      for (int q = 0; q < 1 << top; q++) values[q] = lut_value<L>(t + (q << L), low);
      for (int i = top - 1; i >= 0; i--) {
        const Vec chosen = load<Vec>(row[i] + v * kVectorBytes);
        for (int q = 0; q < 1 << i; q++) {
          values[q] = fma(chosen, values[2 * q + 1] - values[2 * q], values[2 * q]);
        }
      }
      store(out + v * kVectorBytes, values[0]);
    }
  }
}

template <typename S, int L>
void lut_backward_low(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, const char* grad,
                      int64_t grad_pitch, int64_t begin, int64_t end, char* grad_x, int64_t grad_x_pitch,
                      void* grad_table, const Tile& tile) {
  typedef typename Storage<S>::Vec Vec;
  constexpr int kMaxVectors = kLutLines * kLineVectors, kEntries = 1 << L;
  const int top = layer.inputs - L, vectors = tile.lines * kLineVectors, last = vectors - kLineVectors;
  const TailMask<S> tail(tile);
  const auto read = [&](const char* row, int v) __attribute__((always_inline)) {
    const Vec value = load<Vec>(row + v * kVectorBytes);
    return v >= last ? masked(value, tail.mask[v - last]) : value;
  };
  const auto add = [](char* row, int v, Vec value) __attribute__((always_inline)) {
    store(row + v * kVectorBytes, load<Vec>(row + v * kVectorBytes) + value);
  };
  for (int64_t g = begin; g < end; g++) {
    if (g + kLutAhead < end) {
      prefetch_lut(layer, x + tile.offset, x_pitch, g + kLutAhead, tile.lines);
      if (grad_x) prefetch_lut(layer, grad_x + tile.offset, grad_x_pitch, g + kLutAhead, tile.lines);
    }
    const char* row[kLutRows];
    char* to[kLutRows];
    for (int i = 0; i < layer.inputs; i++) {
      const int64_t index = layer.indices[i * layer.gates + g];
      row[i] = x + index * x_pitch + tile.offset;
      to[i] = grad_x ? grad_x + index * grad_x_pitch + tile.offset : nullptr;
    }
    const char* from = grad + g * grad_pitch + tile.offset;
    const S* t = static_cast<const S*>(table) + g * layer.entries();
    S* sums = static_cast<S*>(grad_table) + g * layer.entries();
    Vec values[kLutTops][kMaxVectors];
    for (int q = 0; q < 1 << top; q++) {
      Vec acc[kEntries];
      for (int e = 0; e < kEntries; e++) acc[e] = Vec{};
      for (int v = 0; v < vectors; v++) {
        Vec low[L], gx[L], adjoint = read(from, v);
#pragma GCC unroll 4
        for (int i = 0; i < L; i++) {
          low[i] = read(row[top + i], v);
          gx[i] = Vec{};
        }
        for (int i = 0; i < top; i++) {
          const Vec chosen = read(row[i], v);
          adjoint *= q >> (top - 1 - i) & 1 ? chosen : 1 - chosen;
        }
        values[q][v] = lut_gradients<L>(t + (q << L), low, adjoint, gx, acc);
        if (grad_x) {
#pragma GCC unroll 4
          for (int i = 0; i < L; i++) add(to[top + i], v, gx[i]);
        }
      }
      for (int e = 0; e < kEntries; e += 4) {
        S total[4];
        sum_lanes({acc[e], acc[e + 1], acc[e + 2], acc[e + 3]}, total);
        for (int k = 0; k < 4; k++) sums[(q << L) + e + k] += total[k];
      }
    }
    if (grad_x == nullptr || top == 0) continue;
    for (int v = 0; v < vectors; v++) {
      const Vec adjoint = read(from, v), first = read(row[0], v);
      if (top == 1) {
        add(to[0], v, adjoint * (values[1][v] - values[0][v]));
      } else {
        const Vec second = read(row[1], v), slope0 = values[1][v] - values[0][v], slope1 = values[3][v] - values[2][v];
        const Vec low = fma(second, slope0, values[0][v]), high = fma(second, slope1, values[2][v]);
        add(to[0], v, adjoint * (high - low));
        add(to[1], v, adjoint * fma(first, slope1 - slope0, slope0));
      }
    }
  }
}

template <int L>
LGN_INLINE VecU lut_bits(uint64_t id, const VecU* x) {
  // `id` has the entries of this subtree as its lowest 2^L bits.
  if constexpr (L == 0) {
    return VecU{} - static_cast<uint32_t>(id & 1);
  } else {
    const VecU low = lut_bits<L - 1>(id >> (1 << (L - 1)), x + 1), high = lut_bits<L - 1>(id, x + 1);
    return low ^ (x[0] & (low ^ high));
  }
}

template <int K>
void lut_bits_rows(const LutLayer& layer, const uint8_t* x, int64_t x_pitch, const int64_t* ids, int64_t begin,
                   int64_t end, uint8_t* y, int64_t y_pitch) {
  for (int64_t g = begin; g < end; g++) {
    const auto id = static_cast<uint64_t>(ids[g]);
    for (int64_t byte = 0; byte < y_pitch; byte += kVectorBytes) {
      VecU bits[K];
      for (int i = 0; i < K; i++) bits[i] = load<VecU>(x + layer.indices[i * layer.gates + g] * x_pitch + byte);
      store(y + g * y_pitch + byte, lut_bits<K>(id, bits));
    }
  }
}

void lut_ids(const float* logits, int64_t entries, int64_t begin, int64_t end, int64_t* out) {
  for (int64_t g = begin; g < end; g++) {
    uint64_t id = 0;
    for (int64_t e = 0; e < entries; e++) id = id << 1 | (logits[g * entries + e] > 0);
    out[g] = static_cast<int64_t>(id);
  }
}

template <typename S>
void lut_forward(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, int64_t begin, int64_t end,
                 char* y, int64_t y_pitch, const Tile& tile) {
  if (layer.inputs == 2) return lut_forward_low<S, 2>(layer, x, x_pitch, table, begin, end, y, y_pitch, tile);
  if (layer.inputs == 3) return lut_forward_low<S, 3>(layer, x, x_pitch, table, begin, end, y, y_pitch, tile);
  lut_forward_low<S, kLutLow>(layer, x, x_pitch, table, begin, end, y, y_pitch, tile);
}

template <typename S>
void lut_backward(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, const char* grad,
                  int64_t grad_pitch, int64_t begin, int64_t end, char* grad_x, int64_t grad_x_pitch, void* grad_table,
                  const Tile& tile) {
#define LGN_CALL(L) \
  lut_backward_low<S, L>(layer, x, x_pitch, table, grad, grad_pitch, begin, end, grad_x, grad_x_pitch, grad_table, tile)
  if (layer.inputs == 2) return LGN_CALL(2);
  if (layer.inputs == 3) return LGN_CALL(3);
  LGN_CALL(kLutLow);
#undef LGN_CALL
}

void lut_bits_forward(const LutLayer& layer, const uint8_t* x, int64_t x_pitch, const int64_t* ids, int64_t begin,
                      int64_t end, uint8_t* y, int64_t y_pitch) {
  switch (layer.inputs) {
    case 2:
      return lut_bits_rows<2>(layer, x, x_pitch, ids, begin, end, y, y_pitch);
    case 3:
      return lut_bits_rows<3>(layer, x, x_pitch, ids, begin, end, y, y_pitch);
    case 4:
      return lut_bits_rows<4>(layer, x, x_pitch, ids, begin, end, y, y_pitch);
    case 5:
      return lut_bits_rows<5>(layer, x, x_pitch, ids, begin, end, y, y_pitch);
    default:
      return lut_bits_rows<6>(layer, x, x_pitch, ids, begin, end, y, y_pitch);
  }
}

template <typename S>
constexpr LutKernels lut_kernels() {
  return {&lut_forward<S>, &lut_backward<S>};
}
constexpr LutBitKernels lut_bit_kernels() { return {&lut_bits_forward, &lut_ids}; }

}  // namespace
}  // namespace lgn
