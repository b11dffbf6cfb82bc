// Trees of hard gates on packed samples, with the OR of pooling windows: straight-through training of convolutions.
//
// A row is a feature's samples as bits, as in straight_through.h; the kernels take kBitRowBytes of all rows at a time.
// What the forward pass leaves is the output and, of a pooling, which position won: the first whose tree gives 1, else
// the first of all, stored as the binary digits of its number, a plane of rows for each digit. The backward pass
// evaluates the winner's tree again and sends gradients through it as tree.h does, with choices by bits in place of
// products.
#pragma once

#include "bit_tree_choices.h"
#include "straight_through_simd.h"
#include "tree_workspace.h"

// Loops over the nodes of a small tree have to disappear, or nodes are an array in memory.
#define LGN_UNROLL _Pragma("GCC unroll 16")

namespace lgn {
namespace {

constexpr int kWinnerDigits = 8;  // of at most 256 positions

// y = m0 ^ (a & ma) ^ (b & mb) ^ (a & b & mab)
struct BitGate {
  VecBits m0, ma, mb, mab;
};

// What the kernels need for one tree, in the caller's memory.
struct BitTreeWorkspace {
  static constexpr int64_t kNodeBytes = kTreeLines * kLineBytes;

  BitGate* gate;                 // [N-1]
  GateLine<float>* slope;        // [N-1]
  VecF* sums;                    // [N-1][3]
  VecBits* node;                 // [2N-1]
  VecBits* wins;                 // [pool]
  char* grad;                    // [2N-1] nodes of floats
  int64_t *row, *line, *column;  // [N] where the leaves are, relative to the place of the tree
  int64_t low_line, high_line, low_column, high_column;
  BitTreeChoices choices;  // of learned leaves
  int64_t bytes;

  BitTreeWorkspace(const TreeShape& shape, void* memory) {
    CutLines take(memory);
    const int64_t n = shape.leaves;
    take(gate, n - 1);
    take(slope, n - 1);
    take(sums, 3 * (n - 1));
    take(node, 2 * n - 1);
    take(wins, shape.pool());
    take(grad, (2 * n - 1) * kNodeBytes);
    take(row, n);
    take(line, n);
    take(column, n);
    choices.take_memory(shape, take);
    bytes = take.bytes();
  }

  void read_tree(const TreeShape& shape, const uint8_t* gates, int64_t tree) {
    const int64_t n = shape.leaves, part = shape.trees * n;
    const int32_t* leaf = shape.leaf + tree * n;
    for (int64_t l = 0; l < n; l++) {
      line[l] = leaf[part + l] - shape.pad_h;
      column[l] = leaf[2 * part + l] - shape.pad_w;
      row[l] = (leaf[l] * shape.height + line[l]) * shape.width + column[l];
      low_line = l && low_line < line[l] ? low_line : line[l];
      high_line = l && high_line > line[l] ? high_line : line[l];
      low_column = l && low_column < column[l] ? low_column : column[l];
      high_column = l && high_column > column[l] ? high_column : column[l];
    }
    gates += tree * (n - 1);
    for (int64_t j = 0; j < n - 1; j++) {
      const uint32_t id = gates[j], t00 = id >> 3 & 1, t01 = id >> 2 & 1, t10 = id >> 1 & 1, t11 = id & 1;
      gate[j] = {VecBits{} - t00, VecBits{} - (t00 ^ t10), VecBits{} - (t00 ^ t01),
                 VecBits{} - (t00 ^ t01 ^ t10 ^ t11)};
    }
  }

  // sink(l, row) for every leaf that is in the image when the tree stands at line `y`, column `x` of it; other(l) for
  // the others.
  template <typename Sink, typename Other>
  LGN_INLINE void visit_leaves(const TreeShape& shape, int leaves, int64_t y, int64_t x, const Sink& sink,
                               const Other& other) const {
    const int64_t place = y * shape.width + x;
    if (low_line + y >= 0 && high_line + y < shape.height && low_column + x >= 0 && high_column + x < shape.width) {
      LGN_UNROLL
      for (int l = 0; l < leaves; l++) sink(l, row[l] + place);
      return;
    }
    const auto height = static_cast<uint64_t>(shape.height), width = static_cast<uint64_t>(shape.width);
    LGN_UNROLL
    for (int l = 0; l < leaves; l++) {
      if (static_cast<uint64_t>(line[l] + y) < height && static_cast<uint64_t>(column[l] + x) < width) {
        sink(l, row[l] + place);
      } else {
        other(l);
      }
    }
  }

  // From the leaves node[0 … N-1] to all nodes.
  static LGN_INLINE void evaluate(const BitGate* gate, int leaves, VecBits* node) {
    LGN_UNROLL
    for (int j = 0; j < leaves - 1; j++) {
      const VecBits a = node[2 * j], b = node[2 * j + 1];
      node[leaves + j] = gate[j].m0 ^ (a & gate[j].ma) ^ (b & (gate[j].mb ^ (a & gate[j].mab)));
    }
  }
};

// visit(p, y, x) for the positions of the pooling window at line `top`, column `side` of the output.
template <typename Visit>
LGN_INLINE void visit_window(const TreeShape& shape, int64_t top, int64_t side, const Visit& visit) {
  for (int64_t i = 0, p = 0; i < shape.pool_h; i++) {
    const int64_t y = (top * shape.pool_h + i) * shape.stride_h;
    for (int64_t j = 0; j < shape.pool_w; j++, p++) visit(p, y, (side * shape.pool_w + j) * shape.stride_w);
  }
}

// kLeaves is 0 where their number is not known.
template <int kLeaves>
void bit_tree_forward_of(const BitTreeForward& call, int64_t begin, int64_t end, void* scratch) {
  const TreeShape& shape = call.shape;
  const int leaves = kLeaves ? kLeaves : static_cast<int>(shape.leaves), root = 2 * leaves - 2;
  const int digits = static_cast<int>(shape.winner_digits());
  const int64_t windows = shape.out_height * shape.out_width, plane_bytes = shape.out_rows() * call.pitch;
  BitTreeWorkspace work(shape, scratch);
  for (int64_t tree = begin; tree < end; tree++) {
    work.read_tree(shape, call.gates, tree);
    for (int64_t window = 0; window < windows; window++) {
      const int64_t out = (tree * windows + window) * call.pitch;
      for (int64_t byte = 0; byte < call.pitch; byte += kBitRowBytes) {
        VecBits any = {}, digit[kWinnerDigits] = {};
        visit_window(shape, window / shape.out_width, window % shape.out_width,
                     [&](int64_t p, int64_t y, int64_t x) __attribute__((always_inline)) {
                       VecBits own[kLeaves ? 2 * kLeaves - 1 : 1];
                       VecBits* node = kLeaves ? own : work.node;
                       work.visit_leaves(
                           shape, leaves, y, x,
                           [&](int l, int64_t row) __attribute__((always_inline)) {
                             node[l] = load<VecBits>(call.x + row * call.x_pitch + byte);
                           },
                           [&](int l) __attribute__((always_inline)) { node[l] = VecBits{}; });
                       BitTreeWorkspace::evaluate(work.gate, leaves, node);
                       const VecBits wins = node[root] & ~any;
                       any |= node[root];
                       for (int k = 0; k < digits; k++) {
                         if (p >> k & 1) digit[k] |= wins;
                       }
                     });
        store(call.y + out + byte, any);
        for (int k = 0; k < digits; k++) store(call.winner + k * plane_bytes + out + byte, digit[k]);
      }
    }
  }
}

// Adds the sums of g, g·a, g·b and g·a·b of every gate to `to`; `total` is that of the root's g, see tree_small.h.
inline void add_bit_tree_sums(const BitTreeWorkspace& work, int leaves, VecF total, float* of_node, float* to) {
  const VecF lanes[4] = {total};
  float line[4];
  sum_lanes(lanes, line);
  of_node[2 * leaves - 2] = line[0];
  for (int j = leaves - 2; j >= 0; j--) {
    const GateLine<float>& c = work.slope[j];
    const VecF* s = work.sums + 3 * j;
    const VecF parts[4] = {VecF{}, s[0], s[1], s[2]};
    sum_lanes(parts, line);
    line[0] = of_node[leaves + j];
    of_node[2 * j] = c.ca * line[0] + c.cab * line[2];
    of_node[2 * j + 1] = c.cb * line[0] + c.cab * line[1];
    for (int q = 0; q < 4; q++) to[4 * j + q] += line[q];
  }
}

// kLines is 0 for a tile that is not full.
template <int kLeaves, int kLines>
void bit_tree_backward_of(const BitTreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                          int64_t grad_x_pitch, float* sums, float* shares, void* scratch) {
  typedef BitTreeWorkspace Workspace;
  constexpr int kMaxVectors = kTreeLines * kLineVectors;
  static_assert(kTreeLines * 2 == 8);  // the bits of a tile are one word
  const TreeShape& shape = call.shape;
  const int leaves = kLeaves ? kLeaves : static_cast<int>(shape.leaves), root = 2 * leaves - 2;
  const int vectors = (kLines ? kLines : tile.lines) * kLineVectors, last = vectors - kLineVectors;
  const int digits = static_cast<int>(shape.winner_digits());
  const int64_t windows = shape.out_height * shape.out_width, plane_bytes = shape.out_rows() * call.winner_pitch;
  const bool learned = shape.candidates > 0;
  // Bits are taken by whole vectors, of which the tile is one word.
  const int64_t byte = tile.offset / (kLineBytes / 2), start = byte % kBitRowBytes;
  const uint8_t* x = call.x + byte - start;
  const TailMask<float> tail(tile);
  Workspace work(shape, scratch);
  const auto bits = [&](const VecBits& of) { return reinterpret_cast<const uint8_t*>(&of) + start; };
  const auto grad = [&](int n) { return work.grad + n * Workspace::kNodeBytes; };
  if (learned) work.choices.read_image(shape, x + start, call.x_pitch);
  for (int64_t tree = begin; tree < end; tree++) {
    work.read_tree(shape, call.gates, tree);
    if (learned) work.choices.read_tree(shape, tree);
    TreeWorkspace<float>::read_gates(call.slopes, tree * (leaves - 1), leaves - 1, work.slope);
    VecF total = {};  // of the gradient of the root
    for (int k = 0; k < 3 * (leaves - 1); k++) work.sums[k] = VecF{};
    for (int64_t window = 0; window < windows; window++) {
      const int64_t top = window / shape.out_width, side = window % shape.out_width, out = tree * windows + window;
      VecBits digit[kWinnerDigits];
      for (int k = 0; k < digits; k++) {
        digit[k] = load<VecBits>(call.winner + k * plane_bytes + out * call.winner_pitch + byte - start);
      }
      VecBits* node = work.node;
      for (int l = 0; l < leaves; l++) node[l] = VecBits{};
      visit_window(shape, top, side, [&](int64_t p, int64_t y, int64_t x_place) __attribute__((always_inline)) {
        VecBits wins = ~VecBits{};
        for (int k = 0; k < digits; k++) wins &= p >> k & 1 ? digit[k] : ~digit[k];
        work.wins[p] = wins;
        work.visit_leaves(
            shape, leaves, y, x_place,
            [&](int l, int64_t row)
                __attribute__((always_inline)) { node[l] |= wins & load<VecBits>(x + row * call.x_pitch); },
            [](int) {});
      });
      Workspace::evaluate(work.gate, leaves, node);

      const char* above = call.grad + out * call.grad_pitch + tile.offset;
      for (int v = 0; v < vectors; v++) {
        VecF upper = load<VecF>(above + v * kVectorBytes);
        if (v >= last) upper = masked(upper, tail.mask[v - last]);  // lanes past the batch may hold anything
        total += upper;
        store(grad(root) + v * kVectorBytes, upper);
      }
      for (int j = leaves - 2; j >= 0; j--) {
        const GateLine<float>& c = work.slope[j];
        const VecF a_clear = VecF{} + c.ca, a_set = VecF{} + (c.ca + c.cab);  // slope in a, by the bit b
        const VecF b_clear = VecF{} + c.cb, b_set = VecF{} + (c.cb + c.cab);
        const uint8_t *a_bits = bits(node[2 * j]), *b_bits = bits(node[2 * j + 1]);
        VecF* s = work.sums + 3 * j;
        VecF with_a = s[0], with_b = s[1], with_ab = s[2];
        for (int v = 0; v < vectors; v++) {
          const VecF g = load<VecF>(grad(leaves + j) + v * kVectorBytes);
          const LaneMask a = lane_mask(a_bits, v), b = lane_mask(b_bits, v);
          with_a = add_where(with_a, a, g);
          with_b = add_where(with_b, b, g);
          with_ab = add_where(with_ab, both(a, b), g);
          store(grad(2 * j) + v * kVectorBytes, g * choose(b, a_set, a_clear));
          store(grad(2 * j + 1) + v * kVectorBytes, g * choose(a, b_set, b_clear));
        }
        s[0] = with_a, s[1] = with_b, s[2] = with_ab;
      }

      if (learned) {
        for (int64_t p = 0; p < shape.pool(); p++) work.choices.won[p] = load_word(bits(work.wins[p]));
        work.choices.add<kLines>(shape, top, side, tile.lines, grad);
      }
      if (grad_x == nullptr) continue;
      visit_window(shape, top, side, [&](int64_t p, int64_t y, int64_t x_place) __attribute__((always_inline)) {
        const uint8_t* wins = bits(work.wins[p]);
        if (load_word(wins) == 0) return;
        LaneMask here[kMaxVectors];
        for (int v = 0; v < vectors; v++) here[v] = lane_mask(wins, v);
        work.visit_leaves(
            shape, leaves, y, x_place,
            [&](int l, int64_t row) __attribute__((always_inline)) {
              char* to = grad_x + row * grad_x_pitch;
              const char* from = grad(l);
              for (int v = 0; v < vectors; v++) {
                const VecF sum = load<VecF>(to + v * kVectorBytes);
                store(to + v * kVectorBytes, add_where(sum, here[v], load<VecF>(from + v * kVectorBytes)));
              }
            },
            [](int) {});
      });
    }
    // The rows of gradients are free by now.
    add_bit_tree_sums(work, leaves, total, reinterpret_cast<float*>(work.grad), sums + 4 * tree * (leaves - 1));
    if (learned) work.choices.add_sums(shares + tree * shape.choices());
  }
}

void bit_tree_forward(const BitTreeForward& call, int64_t begin, int64_t end, void* scratch) {
  const auto run = call.shape.leaves == 8 ? &bit_tree_forward_of<8> : &bit_tree_forward_of<0>;
  run(call, begin, end, scratch);
}

void bit_tree_backward(const BitTreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                       int64_t grad_x_pitch, float* sums, float* shares, void* scratch) {
  const bool full = tile.lines == kTreeLines;
  const auto run = call.shape.leaves == 8 ? full ? &bit_tree_backward_of<8, kTreeLines> : &bit_tree_backward_of<8, 0>
                   : full                 ? &bit_tree_backward_of<0, kTreeLines>
                                          : &bit_tree_backward_of<0, 0>;
  run(call, tile, begin, end, grad_x, grad_x_pitch, sums, shares, scratch);
}

int64_t bit_tree_scratch_bytes(const TreeShape& shape) { return BitTreeWorkspace(shape, nullptr).bytes; }

constexpr BitTreeKernels bit_tree_kernels() { return {&bit_tree_scratch_bytes, &bit_tree_forward, &bit_tree_backward}; }

}  // namespace
}  // namespace lgn

#undef LGN_UNROLL
