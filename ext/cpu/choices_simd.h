// Learned connections: what the loss would change by if an input of a gate were another of its candidates.
//
// With u, v the inputs of a gate, g the gradient of its output and candidates c_k for u, the gradient of the share that
// c_k has in u is the sum of g · ∂y/∂u · x[c_k] over samples; likewise for v.
#pragma once

#include "dense_simd.h"
#include "dense_softmax.h"

namespace lgn {
namespace {

// out[k] (+)= sum of slope · row of candidates[k], for `count` candidates; `add(sum, k, v)` adds product v of a row.
// Eight candidates side by side: their sums do not wait for one another, and their lanes are summed together.
template <typename Sum, typename Vec, typename Add>
LGN_INLINE void sum_choices(int64_t count, bool more, Sum* out, int vectors, const Add& add) {
  int64_t first = 0;
  for (; first + 8 <= count; first += 8) {
    Vec s[8] = {};
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
#pragma GCC unroll 8
      for (int q = 0; q < 8; q++) s[q] = add(s[q], first + q, v);
    }
    Sum total[8];
    sum_lanes(s, total);
    for (int64_t q = 0; q < 8; q++) out[first + q] = total[q] + (more ? out[first + q] : 0);
  }
  for (; first < count; first += 4) {
    const int64_t block = count - first < 4 ? count - first : 4;
    Vec s[4] = {};
    if (block == 4) {
      for (int v = 0; v < vectors; v++) {
        for (int q = 0; q < 4; q++) s[q] = add(s[q], first + q, v);
      }
    } else {
      for (int64_t q = 0; q < block; q++) {
        for (int v = 0; v < vectors; v++) s[q] = add(s[q], first + q, v);
      }
    }
    Sum total[4];
    sum_lanes(s, total);
    for (int64_t q = 0; q < block; q++) out[first + q] = total[q] + (more ? out[first + q] : 0);
  }
}

template <typename S, int N>
void choices_lines(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, const void* table,
                   const int32_t* a, const int32_t* b, const int32_t* candidates, int64_t count, int64_t begin,
                   int64_t end, void* out, bool more, const Tile& tile) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  const int lines = N ? N : tile.lines;
  const int vectors = lines * kLineVectors;
  const TailMask<S> tail(tile);
  const int tail_begin = (lines - 1) * kLineVectors * St::kParts;
  x += tile.offset;
  grad += tile.offset;
  for (int64_t g = begin; g < end; g++) {
    const Sum* t = static_cast<const Sum*>(table) + 4 * g;
    const Sum mixed = t[3] - t[1] - t[2] + t[0];
    Vec slope[2][(N ? N : kTileLines) * kLineVectors * St::kParts];
    for (int v = 0; v < vectors; v++) {
      Vec u[St::kParts], w[St::kParts], q[St::kParts];
      St::unpack(x + a[g] * x_pitch + v * kVectorBytes, u);
      St::unpack(x + b[g] * x_pitch + v * kVectorBytes, w);
      St::unpack(grad + g * grad_pitch + v * kVectorBytes, q);
      for (int part = 0; part < St::kParts; part++) {
        const int at = v * St::kParts + part;
        slope[0][at] = q[part] * (t[2] - t[0] + mixed * w[part]);
        slope[1][at] = q[part] * (t[1] - t[0] + mixed * u[part]);
      }
    }
    for (int side = 0; side < 2; side++) {
      for (int v = 0; v < TailMask<S>::kVectors; v++) {
        slope[side][tail_begin + v] = masked(slope[side][tail_begin + v], tail.mask[v]);
      }
      const int32_t* rows = candidates + (2 * g + side) * count;
      sum_choices<Sum, Vec>(count, more, static_cast<Sum*>(out) + (2 * g + side) * count, vectors,
                            [&](Vec sum, int64_t k, int v) __attribute__((always_inline)) {
                              Vec value[St::kParts];
                              St::unpack(x + rows[k] * x_pitch + v * kVectorBytes, value);
                              for (int part = 0; part < St::kParts; part++) {
                                const int at = v * St::kParts + part;
                                // Lanes past the batch may hold anything, also a NaN.
                                const Vec row = v >= vectors - kLineVectors
                                                    ? masked(value[part], tail.mask[at - tail_begin])
                                                    : value[part];
                                sum = fma(slope[side][at], row, sum);
                              }
                              return sum;
                            });
    }
  }
}

template <typename S>
void choices(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, const void* table, const int32_t* a,
             const int32_t* b, const int32_t* candidates, int64_t count, int64_t begin, int64_t end, void* out,
             bool more, const Tile& tile) {
  for_lines<S>(tile.lines, [&](auto n) {
    choices_lines<S, n>(x, x_pitch, grad, grad_pitch, table, a, b, candidates, count, begin, end, out, more, tile);
  });
}

// Unnormalized probabilities of rows of logits, the largest 1, in blocks of rows that stay in the nearest cache.
constexpr int64_t kChooseRows = 64;
LGN_INLINE void exp_rows(const float* logits, int64_t count, int64_t rows, float scale, float* out) {
  for (int64_t r = 0; r < rows; r++) {
    float top = logits[r * count];
    for (int64_t k = 1; k < count; k++) top = logits[r * count + k] > top ? logits[r * count + k] : top;
    for (int64_t k = 0; k < count; k++) out[r * count + k] = (logits[r * count + k] - top) * scale;
  }
  int64_t k = 0;
  for (; k + kW <= rows * count; k += kW) store(out + k, exp_negative(load<VecF>(out + k)));
  if (k < rows * count) {
    const size_t rest = static_cast<size_t>(rows * count - k) * sizeof(float);
    VecF last{};
    std::memcpy(&last, out + k, rest);
    last = exp_negative(last);
    std::memcpy(out + k, &last, rest);
  }
}

// Whether rows of K numbers fill a vector, and then a sum or maximum over each row, in all of its lanes.
template <int K>
constexpr bool kInLanes = K > 0 && K <= kW;
template <int K, typename Join>
LGN_INLINE VecF over_row(VecF v, const Join& join) {
  v = join(v, shuffle<Fold, 1>(v, v));
  v = join(v, shuffle<Fold, 2>(v, v));
  if constexpr (K > 4) v = join(v, shuffle<Fold, 4>(v, v));
  if constexpr (K > 8) v = join(v, shuffle<Fold, 8>(v, v));
  return v;
}

// The likeliest of each row: all of it in registers. Returns the first row that is left to do.
template <int K>
LGN_INLINE int64_t choose_likeliest(const float* logits, const int32_t* candidates, int64_t begin, int64_t end,
                                    int32_t* a, int32_t* b, float* shares) {
  constexpr int64_t kRows = kW / K;
  int64_t first = begin;
  for (; first + kRows <= end; first += kRows) {
    const VecF v = load<VecF>(logits + first * K);
    const VecF top = over_row<K>(v, [](VecF x, VecF y) { return select(x > y, x, y); });
    const uint32_t at_top = lanes_set(v == top), nans = lanes_set(v != v);
    for (int64_t r = 0; r < kRows; r++) {
      // In a row with a NaN that counts as the largest, as for torch's argmax.
      const uint32_t of_row = nans >> (r * K) & ((1u << K) - 1) ? nans >> (r * K) : at_top >> (r * K);
      int32_t* wires = (first + r) % 2 ? b : a;
      wires[(first + r) / 2] = candidates[(first + r) * K + __builtin_ctz(of_row)];
    }
    const VecF p = exp_negative(v - top);
    store(shares + first * K, p / over_row<K>(p, [](VecF x, VecF y) { return x + y; }));
  }
  return first;
}

// K is the number of candidates, or 0 for one known at run time only.
template <int K>
void choose_rows(const float* logits, const int32_t* candidates, int64_t candidate_count, const float* level,
                 float noise, int64_t begin, int64_t end, int32_t* a, int32_t* b, float* shares) {
  const int64_t count = K ? K : candidate_count;
  if constexpr (kInLanes<K>) {
    if (level == nullptr) begin = choose_likeliest<K>(logits, candidates, begin, end, a, b, shares);
  }
  for (int64_t first = begin; first < end; first += kChooseRows) {
    const int64_t rows = end - first < kChooseRows ? end - first : kChooseRows;
    const float* in = logits + first * count;
    float* out = shares + first * count;
    // The draw goes first, so that its probabilities may lie where the shares come.
    if (level != nullptr) exp_rows(in, count, rows, 1.0f / noise, out);
    for (int64_t r = 0; r < rows; r++) {
      const float* p = (level != nullptr ? out : in) + r * count;
      int64_t chosen = 0;
      if (level != nullptr) {
        // Without branches: where a draw ends cannot be predicted.
        float sum = 0, below = 0;
        for (int64_t k = 0; k < count; k++) sum += p[k];
        const float mark = level[first + r] * sum;
        for (int64_t k = 0; k < count - 1; k++) {
          below += p[k];
          chosen += mark >= below;
        }
      } else {
        for (int64_t k = 1; k < count; k++)
          chosen = p[k] > p[chosen] || (p[k] != p[k] && p[chosen] == p[chosen]) ? k : chosen;
      }
      // Two statements: in one, UBSan of gcc 12 computes a wrong address.
      int32_t* wires = (first + r) % 2 ? b : a;
      wires[(first + r) / 2] = candidates[(first + r) * count + chosen];
    }
    if (level == nullptr || noise != 1.0f) exp_rows(in, count, rows, 1.0f, out);
    for (int64_t r = 0; r < rows; r++) {
      float sum = 0;
      for (int64_t k = 0; k < count; k++) sum += out[r * count + k];
      const float scale = 1.0f / sum;
      for (int64_t k = 0; k < count; k++) out[r * count + k] *= scale;
    }
  }
}

template <int K>
void choose_rows_backward(const float* grad, const float* shares, int64_t candidate_count, int64_t begin, int64_t end,
                          float* out) {
  const int64_t count = K ? K : candidate_count;
  int64_t r = begin;
  if constexpr (kInLanes<K>) {
    for (constexpr int64_t kRows = kW / K; r + kRows <= end; r += kRows) {
      const VecF g = load<VecF>(grad + r * K), p = load<VecF>(shares + r * K);
      store(out + r * K, p * (g - over_row<K>(g * p, [](VecF x, VecF y) { return x + y; })));
    }
  }
  for (; r < end; r++) {
    const float *g = grad + r * count, *p = shares + r * count;
    float mean = 0;
    for (int64_t k = 0; k < count; k++) mean += g[k] * p[k];
    for (int64_t k = 0; k < count; k++) out[r * count + k] = p[k] * (g[k] - mean);
  }
}

// The usual numbers of candidates have code of their own.
void choose(const float* logits, const int32_t* candidates, int64_t count, const float* level, float noise,
            int64_t begin, int64_t end, int32_t* a, int32_t* b, float* shares) {
  const auto run = count == 8 ? &choose_rows<8> : count == 16 ? &choose_rows<16> : &choose_rows<0>;
  run(logits, candidates, count, level, noise, begin, end, a, b, shares);
}
void choose_backward(const float* grad, const float* shares, int64_t count, int64_t begin, int64_t end, float* out) {
  const auto run = count == 8    ? &choose_rows_backward<8>
                   : count == 16 ? &choose_rows_backward<16>
                                 : &choose_rows_backward<0>;
  run(grad, shares, count, begin, end, out);
}

uint32_t largest_index(const int32_t* indices, int64_t count) {
  VecU top{};
  int64_t k = 0;
  for (; k + kW <= count; k += kW) {
    const VecU here = load<VecU>(indices + k);
    top = here > top ? here : top;
  }
  uint32_t largest = 0;
  for (int lane = 0; lane < kW; lane++) largest = top[lane] > largest ? top[lane] : largest;
  for (; k < count; k++)
    largest = static_cast<uint32_t>(indices[k]) > largest ? static_cast<uint32_t>(indices[k]) : largest;
  return largest;
}

constexpr ChoiceKernels choice_kernels() { return {&largest_index, &choose, &choose_backward}; }

}  // namespace
}  // namespace lgn
