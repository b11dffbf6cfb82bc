// Straight-through layers whose wires are chosen anew at every step: the backward pass, gate by gate.
//
// Nothing can be prepared for such wires but a list of who reads which input. So gradients are not pushed to the
// inputs, as along the trails of fixed wires, but pulled by them: a row is summed in registers and written once, and
// while the sums over its gate's table and candidates are made of it, the rows that later ones need are on their way.
#pragma once

#include "bits_lanes.h"
#include "choices_simd.h"
#include "dense_simd.h"
#include "straight_through_subset_sums.h"

namespace lgn {
namespace {

LGN_INLINE const char* row_of(const char* grad, int64_t pitch, int64_t group, uint32_t gate) {
  return grad + static_cast<int64_t>(group ? gate / static_cast<uint32_t>(group) : gate) * pitch;
}

// `x` are the bits of the tile.
LGN_INLINE void pull_row(const PulledRows& from, const uint8_t* x, int64_t row, int lines, VecF* sum) {
  const BitGates& layer = from.layer;
  const BitUse *first = from.uses + from.begin[row], *last = from.uses + from.begin[row + 1];
  for (int v = 0; v < lines * kLineVectors; v++) sum[v] = VecF{};
  for (const BitUse* u = first; u < last; u++) {
    const BitUse& later = u[kUsesAhead];
    prefetch_read(row_of(from.grad, from.grad_pitch, from.group, later.use / 2), lines);
    prefetch_read(reinterpret_cast<const char*>(layer.table + 4 * static_cast<int64_t>(later.use / 2)), 1);
    prefetch_read(reinterpret_cast<const char*>(x + later.other * layer.x_pitch), 1);
    const uint32_t gate = u->use / 2;
    const Slope slope(layer.table + 4 * static_cast<int64_t>(gate), u->use % 2, from.factor);
    const uint8_t* other = x + u->other * layer.x_pitch;
    const char* g = row_of(from.grad, from.grad_pitch, from.group, gate);
    for (int v = 0; v < lines * kLineVectors; v++) {
      sum[v] = fma(load<VecF>(g + v * kVectorBytes), choose(lane_mask(other, v), slope.set, slope.clear), sum[v]);
    }
  }
}

LGN_INLINE const uint8_t* bits_of(const BitGates& layer, const Tile& tile) {
  return layer.x + tile.offset / (kLineBytes / 2);  // a line of 16 floats is 2 bytes of bits
}

template <int N>
void bit_pull_lines(const PulledRows& from, int64_t begin, int64_t end, char* out, int64_t out_pitch,
                    const Tile& tile) {
  const int lines = N ? N : tile.lines;
  const uint8_t* x = bits_of(from.layer, tile);
  for (int64_t row = begin; row < end; row++) {
    VecF sum[(N ? N : kTileLines) * kLineVectors];
    pull_row(from, x, row, lines, sum);
    for (int v = 0; v < lines * kLineVectors; v++) store(out + row * out_pitch + v * kVectorBytes, sum[v]);
  }
}

// What the gates from `gate` on will need, asked for ahead: too many streams for a processor to see by itself.
LGN_INLINE void prefetch_gate(const BitGates& layer, const Candidates& candidates, const TableRows& grad_table,
                              int64_t gate) {
  const int64_t list = 2 * gate * candidates.count;
  const int list_lines = static_cast<int>((2 * candidates.count * 4 + kLineBytes - 1) / kLineBytes);
  if (candidates.grad) prefetch_read(reinterpret_cast<const char*>(candidates.rows + list), list_lines);
  prefetch_read(reinterpret_cast<const char*>(layer.table + 4 * gate), 1);
  prefetch_write(reinterpret_cast<const char*>(static_cast<const float*>(grad_table.data) + 4 * gate), 1);
  if (!candidates.grad) return;
  prefetch_write(reinterpret_cast<const char*>(candidates.grad + list), list_lines);
  if (candidates.shares) prefetch_read(reinterpret_cast<const char*>(candidates.shares + list), list_lines);
}

// Sums of the gradient `g` of a gate's output, and of g·x_a, g·x_b and g·x_a·x_b, `xa` and `xb` being rows of bits.
LGN_INLINE void sum_table(const VecF* g, int vectors, const uint8_t* xa, const uint8_t* xb, float (&total)[4]) {
  VecF s[4] = {};
  for (int v = 0; v < vectors; v++) {
    const LaneMask i = lane_mask(xa, v), j = lane_mask(xb, v);
    s[0] += g[v];
    s[1] = add_where(s[1], i, g[v]);
    s[2] = add_where(s[2], j, g[v]);
    s[3] = add_where(s[3], both(i, j), g[v]);
  }
  sum_lanes(s, total);
}

#if defined(__AVX512F__)
// Gradients of the shares of candidates, 16 kSets of them from place `at` of the gate's two lists on. Where the chosen
// wires are among them, their sums are those of the table.
template <int kSets>
LGN_INLINE void subset_gradients(const BitGates& layer, const uint8_t* x, const Candidates& candidates, int64_t gate,
                                 const VecF* g, int vectors, int64_t at, const Slope& of_a, const Slope& of_b,
                                 float (&total)[4], uint32_t& found) {
  const int64_t count = candidates.count, list = 2 * gate * count + at;
  const int32_t a = layer.a[gate], b = layer.b[gate];
  LaneMask second[kSets];
  for (int k = 0; k < kSets; k++) {
    const int64_t first_of_b = count - at - 16 * k;
    second[k] = static_cast<LaneMask>(first_of_b <= 0 ? 0xffff : first_of_b >= 16 ? 0 : 0xffff << first_of_b);
  }
  SubsetSums sums[kSets];
  subset_sums<kSets>(g, vectors, x, layer.x_pitch, candidates.rows + list, x + a * layer.x_pitch, x + b * layer.x_pitch,
                     second, sums);
  for (int k = 0; k < kSets; k++) {
    const VecF clear = choose(second[k], of_b.clear, of_a.clear), set = choose(second[k], of_b.set, of_a.set);
    VecF grad = fma(set - clear, sums[k].with_other, clear * sums[k].alone);
    float* to = candidates.grad + list + 16 * k;
    if (candidates.more) grad += load<VecF>(to);
    store(to, grad);
    const __m512i rows = _mm512_loadu_si512(candidates.rows + list + 16 * k);
    const uint32_t is_a = _mm512_mask_cmpeq_epi32_mask(static_cast<LaneMask>(~second[k]), rows, _mm512_set1_epi32(a)),
                   is_b = _mm512_mask_cmpeq_epi32_mask(second[k], rows, _mm512_set1_epi32(b));
    if (is_a) total[1] = sums[k].alone[__builtin_ctz(is_a)], total[3] = sums[k].with_other[__builtin_ctz(is_a)];
    if (is_b) total[2] = sums[k].alone[__builtin_ctz(is_b)];
    found |= (is_a ? 1u : 0) | (is_b ? 2u : 0);
  }
}
#endif

// From the gradient `g` of a gate's output to those of its table and of its candidates' shares. `x` are the bits of the
// tile. A call and not eight copies, which took a compiler two seconds and ran no faster.
__attribute__((noinline)) void gate_gradients(const BitGates& layer, const uint8_t* x, const Candidates& candidates,
                                              int64_t gate, const VecF* g, int vectors, const TableRows& grad_table) {
  const int64_t count = candidates.count;
  const uint8_t *xa = x + layer.a[gate] * layer.x_pitch, *xb = x + layer.b[gate] * layer.x_pitch;
  const Step step{static_cast<int32_t>(gate), 0, 0, 0};
  float total[4];
  if (!candidates.grad) {
    sum_table(g, vectors, xa, xb, total);
    return give_table_gradient(total, step, grad_table);
  }
  const Slope of_a(layer.table + 4 * gate, 0, 1.0f), of_b(layer.table + 4 * gate, 1, 1.0f);
#if defined(__AVX512F__)
  if (count % 8 == 0) {
    VecF sum{};
    for (int v = 0; v < vectors; v++) sum += g[v];
    total[0] = _mm512_reduce_add_ps((__m512)sum);
    uint32_t found = 0;
    int64_t at = 0;
    for (; at + 32 <= 2 * count; at += 32) {
      subset_gradients<2>(layer, x, candidates, gate, g, vectors, at, of_a, of_b, total, found);
    }
    if (at < 2 * count) subset_gradients<1>(layer, x, candidates, gate, g, vectors, at, of_a, of_b, total, found);
    if (found != 3) sum_table(g, vectors, xa, xb, total);
    return give_table_gradient(total, step, grad_table);
  }
#endif
  sum_table(g, vectors, xa, xb, total);
  give_table_gradient(total, step, grad_table);
  for (int side = 0; side < 2; side++) {
    const Slope& slope = side ? of_b : of_a;
    VecF product[kTileLines * kLineVectors];
    for (int v = 0; v < vectors; v++) {
      product[v] = g[v] * choose(lane_mask(side ? xa : xb, v), slope.set, slope.clear);
    }
    const int64_t list = (2 * gate + side) * count;
    const int32_t* rows = candidates.rows + list;
    sum_choices<float, VecF>(count, candidates.more, candidates.grad + list, vectors,
                             [&](VecF sum, int64_t k, int v) __attribute__((always_inline)) {
                               return add_where(sum, lane_mask(x + rows[k] * layer.x_pitch, v), product[v]);
                             });
  }
}

template <int N, bool kPull>
void bit_learned_lines(const BitGates& layer, const Candidates& candidates, const PulledRows* above, char* grad,
                       int64_t grad_pitch, int64_t group, int64_t begin, int64_t end, const TableRows& grad_table,
                       const Tile& tile) {
  constexpr int64_t kBlock = 32;  // gates whose shares' gradients are still near when they become those of the logits
  const int lines = N ? N : tile.lines, vectors = lines * kLineVectors;
  const uint8_t *x = bits_of(layer, tile), *x_above = kPull ? bits_of(above->layer, tile) : nullptr;
  const int64_t width = 2 * candidates.count;
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t block_end = block + kBlock < end ? block + kBlock : end;
    for (int64_t gate = block; gate < block_end; gate++) {
      if (gate + kAhead < end) {
        prefetch_gate(layer, candidates, grad_table, gate + kAhead);
        if (kPull && grad) prefetch_write(grad + (gate + kAhead) * grad_pitch, lines);
      }
      VecF g[(N ? N : kTileLines) * kLineVectors];
      if constexpr (kPull) {
        if (above->begin[gate] == above->begin[gate + 1]) {  // nobody reads it
          if (candidates.grad && !candidates.more) {
            std::memset(candidates.grad + gate * width, 0, static_cast<size_t>(width) * sizeof(float));
          }
          if (!grad_table.sums) std::memset(static_cast<float*>(grad_table.data) + 4 * gate, 0, 4 * sizeof(float));
          continue;
        }
        pull_row(*above, x_above, gate, lines, g);
        if (grad) {
          for (int v = 0; v < vectors; v++) store(grad + gate * grad_pitch + v * kVectorBytes, g[v]);
        }
      } else {
        const char* from = row_of(grad, grad_pitch, group, static_cast<uint32_t>(gate));
        for (int v = 0; v < vectors; v++) g[v] = load<VecF>(from + v * kVectorBytes);
      }
      gate_gradients(layer, x, candidates, gate, g, vectors, grad_table);
    }
    if (candidates.shares) {
      choose_backward(candidates.grad, candidates.shares, candidates.count, 2 * block, 2 * block_end, candidates.grad);
    }
  }
}

void bit_pull(const PulledRows& from, int64_t begin, int64_t end, char* out, int64_t out_pitch, const Tile& tile) {
  for_lines<float>(tile.lines, [&](auto n) { bit_pull_lines<n>(from, begin, end, out, out_pitch, tile); });
}

void bit_learned(const BitGates& layer, const Candidates& candidates, const PulledRows* above, char* grad,
                 int64_t grad_pitch, int64_t group, int64_t begin, int64_t end, const TableRows& grad_table,
                 const Tile& tile) {
  for_lines<float>(tile.lines, [&](auto n) {
    const auto run = above ? &bit_learned_lines<n, true> : &bit_learned_lines<n, false>;
    run(layer, candidates, above, grad, grad_pitch, group, begin, end, grad_table, tile);
  });
}

}  // namespace
}  // namespace lgn
