// Trees of gates over receptive fields, with the maximum over pooling windows.
//
// The forward pass stores nothing but the maximum and which position won. A sample's gradient goes to the winner alone,
// so the backward pass gathers the leaves of each sample's winner, and recomputes and differentiates one tree instead
// of one for each position (Petersen et al., 2024, sec. 3.3).
//
// Of N leaves, nodes 0 … N-1 are the leaves and node N + j is gate j with the operands 2j and 2j + 1.
#pragma once

#include <limits>

#include "tree_small.h"
#include "tree_workspace.h"

namespace lgn {
namespace {

// Rows as the activations store them, and as nodes hold them.
template <typename S>
struct StoredRow {
  typedef Storage<S> St;
  static LGN_INLINE void read(const char* row, int v, typename St::Vec* out) {
    St::unpack(row + v * kVectorBytes, out);
  }
};
template <typename S>
struct NodeRow {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  static LGN_INLINE void read(const char* row, int v, Vec* out) {
    for (int u = 0; u < St::kParts; u++) out[u] = load<Vec>(row + (v * St::kParts + u) * kVectorBytes);
  }
};

// sink(v, u, value) for the values of one gate.
template <typename Row, typename S, typename Sink>
LGN_INLINE void evaluate(const GateLine<typename Storage<S>::Sum>& c, const char* a, const char* b, int vectors,
                         const Sink& sink) {
  typedef typename Storage<S>::Vec Vec;
  const Vec c0 = Vec{} + c.c0, ca = Vec{} + c.ca, cb = Vec{} + c.cb, cab = Vec{} + c.cab;
  for (int v = 0; v < vectors; v++) {
    Vec left[Storage<S>::kParts], right[Storage<S>::kParts];
    Row::read(a, v, left);
    Row::read(b, v, right);
    for (int u = 0; u < Storage<S>::kParts; u++) {
      sink(v, u, fma(fma(cab, left[u], cb), right[u], fma(ca, left[u], c0)));
    }
  }
}

template <typename S>
void large_tree_forward(const TreeForward& call, const Tile& tile, int64_t begin, int64_t end, void* scratch) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  typedef typename VectorOf<Sum>::Int Int;
  typedef TreeWorkspace<S> Workspace;
  constexpr int kParts = St::kParts, kMaxVectors = kTreeLines * kLineVectors;
  const TreeShape& shape = call.shape;
  const int vectors = tile.lines * kLineVectors;
  const int leaves = static_cast<int>(shape.leaves), root = leaves - 2, pool = static_cast<int>(shape.pool());
  Workspace work(shape, scratch);
  const auto node = [&](int n) { return work.value + n * Workspace::kNodeBytes; };
  const char* x = call.x + tile.offset;
  const int64_t windows = shape.out_height * shape.out_width;
  for (int64_t tree = begin; tree < end; tree++) {
    work.read_places(shape, shape.leaf, tree, work.leaves);
    work.read_gates(call.table, tree * (leaves - 1), leaves - 1, work.gate);
    for (int64_t window = 0; window < windows; window++) {
      work.find_rows(shape, work.leaves, window / shape.out_width, window % shape.out_width, x, call.x_pitch, kZeroRow,
                     work.row);
      Vec best[kMaxVectors * kParts];
      Int from[kMaxVectors * kParts];
      for (int k = 0; k < vectors * kParts; k++) {
        best[k] = Vec{} + std::numeric_limits<Sum>::quiet_NaN();
        from[k] = Int{};
      }
      for (int p = 0; p < pool; p++) {
        const int64_t* row = work.row + p * leaves;
        const auto leaf = [&](int l) { return reinterpret_cast<const char*>(row[l]); };
        const auto compete = [&](int v, int u, Vec value) __attribute__((always_inline)) {
          const int k = v * kParts + u;
          const auto stays = best[k] >= value;
          best[k] = stays ? best[k] : value;
          from[k] = stays ? from[k] : Int{} + p;
        };
        for (int j = 0; j < root; j++) {
          char* out = node(leaves + j);
          const auto keep = [&](int v, int u, Vec value)
                                __attribute__((always_inline)) { store(out + (v * kParts + u) * kVectorBytes, value); };
          if (2 * j < leaves) {
            evaluate<StoredRow<S>, S>(work.gate[j], leaf(2 * j), leaf(2 * j + 1), vectors, keep);
          } else {
            evaluate<NodeRow<S>, S>(work.gate[j], node(2 * j), node(2 * j + 1), vectors, keep);
          }
        }
        if (root == 0) {
          evaluate<StoredRow<S>, S>(work.gate[0], leaf(0), leaf(1), vectors, compete);
        } else {
          evaluate<NodeRow<S>, S>(work.gate[root], node(2 * root), node(2 * root + 1), vectors, compete);
        }
      }
      const int64_t out = tree * windows + window;
      char* y = call.y + out * call.y_pitch + tile.offset;
      for (int v = 0; v < vectors; v++) store(y + v * kVectorBytes, St::pack(best + v * kParts));
      if (call.winner == nullptr) continue;
      uint8_t* winner = call.winner + out * call.winner_pitch + tile.offset / static_cast<int64_t>(sizeof(S));
      for (int v = 0; v < vectors; v++) Winners<S>::write(winner + v * Winners<S>::kBytes, from + v * kParts);
    }
  }
}

// Adds to the sums of a leaf's candidates its gradient times what each reads at the winner's position.
template <typename S>
LGN_INLINE void add_choices(const TreeWorkspace<S>& work, const TreeShape& shape, int64_t leaf,
                            const typename Storage<S>::Vec* grad,
                            const typename VectorOf<typename Storage<S>::Sum>::Int* from, int vectors,
                            const TailMask<S>& tail) {
  typedef typename Storage<S>::Vec Vec;
  constexpr int kParts = Storage<S>::kParts, kMaxVectors = kTreeLines * kLineVectors, kPositions = 4;
  const int last = vectors - kLineVectors, pool = static_cast<int>(shape.pool());
  for (int first = 0; first < pool; first += kPositions) {
    const int positions = pool - first < kPositions ? pool - first : kPositions;
    // The gradient goes to the winner, so elsewhere it is 0, and no candidate's value has to be selected.
    Vec part[kPositions][kMaxVectors * kParts];
    for (int p = 0; p < positions; p++) {
      for (int k = 0; k < vectors * kParts; k++) part[p][k] = from[k] == first + p ? grad[k] : Vec{};
    }
    for (int64_t c = leaf * shape.candidates; c < (leaf + 1) * shape.candidates; c++) {
      Vec sum[2] = {work.choice_sums[c], Vec{}};
      for (int p = 0; p < positions; p++) {
        const char* row = reinterpret_cast<const char*>(work.choice_row[(first + p) * shape.choices() + c]);
        for (int v = 0; v < vectors; v++) {
          Vec value[kParts];
          Storage<S>::unpack(row + v * kVectorBytes, value);
          for (int u = 0; u < kParts; u++) {
            const int k = v * kParts + u;
            // Lanes past the batch may hold anything, also a NaN.
            const Vec here = v >= last ? masked(value[u], tail.mask[(v - last) * kParts + u]) : value[u];
            sum[k % 2] = fma(part[p][k], here, sum[k % 2]);
          }
        }
      }
      work.choice_sums[c] = sum[0] + sum[1];
    }
  }
}

// Also that of learned leaves, of trees of any size.
template <typename S, bool kLearned>
void large_tree_backward(const TreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                         int64_t grad_x_pitch, void* sums, void* shares, void* scratch) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  typedef typename VectorOf<Sum>::Int Int;
  typedef TreeWorkspace<S> Workspace;
  constexpr int kParts = St::kParts, kMaxVectors = kTreeLines * kLineVectors;
  const TreeShape& shape = call.shape;
  const int vectors = tile.lines * kLineVectors, last = vectors - kLineVectors;
  const int leaves = static_cast<int>(shape.leaves), root = leaves - 2, pool = static_cast<int>(shape.pool());
  const TailMask<S> tail(tile);
  Workspace work(shape, scratch);
  const auto value = [&](int n) { return work.value + n * Workspace::kNodeBytes; };
  const auto grad = [&](int n) { return work.grad + n * Workspace::kNodeBytes; };
  const auto at = [](char* node, int k) { return node + k * kVectorBytes; };
  std::memset(work.outside, 0, Workspace::kNodeBytes);
  const char* x = call.x + tile.offset;
  const int64_t windows = shape.out_height * shape.out_width;
  for (int64_t tree = begin; tree < end; tree++) {
    work.read_places(shape, shape.leaf, tree, work.leaves);
    if (kLearned) {
      work.read_places(shape, shape.candidate, tree, work.candidates);
      for (int64_t k = 0; k < (shape.choices() + 3) / 4 * 4; k++) work.choice_sums[k] = Vec{};
    }
    work.read_gates(call.table, tree * (leaves - 1), leaves - 1, work.gate);
    work.read_gates(call.slopes, tree * (leaves - 1), leaves - 1, work.slope);
    for (int k = 0; k < 4 * (leaves - 1); k++) work.sums[k] = Vec{};
    for (int64_t window = 0; window < windows; window++) {
      const int64_t top = window / shape.out_width, side = window % shape.out_width, out = tree * windows + window;
      work.find_rows(shape, work.leaves, top, side, x, call.x_pitch, kZeroRow, work.row);
      if (grad_x) work.find_rows(shape, work.leaves, top, side, grad_x, grad_x_pitch, work.outside, work.grad_row);
      if (kLearned) work.find_rows(shape, work.candidates, top, side, x, call.x_pitch, kZeroRow, work.choice_row);
      Int from[kMaxVectors * kParts];
      for (int v = 0; v < vectors; v++) {
        Vec upper[kParts];
        Int* winner = from + v * kParts;
        St::unpack(call.grad + out * call.grad_pitch + tile.offset + v * kVectorBytes, upper);
        if (call.winner == nullptr) {
          for (int u = 0; u < kParts; u++) winner[u] = Int{};
        } else {
          Winners<S>::read(call.winner + out * call.winner_pitch + tile.offset / static_cast<int64_t>(sizeof(S)) +
                               v * Winners<S>::kBytes,
                           winner);
        }
        for (int u = 0; u < kParts; u++) {
          if (v >= last) {
            // Lanes past the batch have no winner: their leaves are zeros, whatever is in the rows.
            const Int mask = tail.mask[(v - last) * kParts + u];
            winner[u] |= ~mask;
            upper[u] = masked(upper[u], mask);
          }
          store(at(grad(leaves + root), v * kParts + u), upper[u]);
        }
      }
      for (int l = 0; l < leaves; l++) {
        Vec chosen[kMaxVectors * kParts];
        for (int k = 0; k < vectors * kParts; k++) chosen[k] = Vec{};
        for (int p = 0; p < pool; p++) {
          const char* row = reinterpret_cast<const char*>(work.row[p * leaves + l]);
          for (int v = 0; v < vectors; v++) {
            Vec here[kParts];
            St::unpack(row + v * kVectorBytes, here);
            for (int u = 0; u < kParts; u++) {
              const int k = v * kParts + u;
              chosen[k] = from[k] == p ? here[u] : chosen[k];
            }
          }
        }
        for (int k = 0; k < vectors * kParts; k++) store(at(value(l), k), chosen[k]);
      }
      for (int j = 0; j < root; j++) {
        char* to = value(leaves + j);
        evaluate<NodeRow<S>, S>(work.gate[j], value(2 * j), value(2 * j + 1), vectors,
                                [&](int v, int u, Vec result)
                                    __attribute__((always_inline)) { store(at(to, v * kParts + u), result); });
      }
      for (int j = root; j >= 0; j--) {
        const GateLine<Sum>& c = work.slope[j];
        const Vec ca = Vec{} + c.ca, cb = Vec{} + c.cb, cab = Vec{} + c.cab;
        char *left = value(2 * j), *right = value(2 * j + 1), *from_above = grad(leaves + j);
        Vec s[4] = {}, to_left[kMaxVectors * kParts], to_right[kMaxVectors * kParts];
        for (int k = 0; k < vectors * kParts; k++) {
          const Vec g = load<Vec>(at(from_above, k)), a = load<Vec>(at(left, k)), b = load<Vec>(at(right, k));
          const Vec with_a = g * a, with_b = g * b;
          s[0] += g;
          s[1] += with_a;
          s[2] += with_b;
          s[3] = fma(with_a, b, s[3]);
          to_left[k] = fma(cab, with_b, ca * g);
          to_right[k] = fma(cab, with_a, cb * g);
        }
        for (int q = 0; q < 4; q++) work.sums[4 * j + q] += s[q];
        if (2 * j >= leaves) {
          for (int k = 0; k < vectors * kParts; k++) {
            store(at(grad(2 * j), k), to_left[k]);
            store(at(grad(2 * j + 1), k), to_right[k]);
          }
          continue;
        }
        if (kLearned) {
          add_choices<S>(work, shape, 2 * j, to_left, from, vectors, tail);
          add_choices<S>(work, shape, 2 * j + 1, to_right, from, vectors, tail);
        }
        if (grad_x) {
          for (int p = 0; p < pool; p++) {
            const int64_t* row = work.grad_row + p * leaves + 2 * j;
            char *l = reinterpret_cast<char*>(row[0]), *r = reinterpret_cast<char*>(row[1]);
            for (int k = 0; k < vectors * kParts; k++) {
              store(at(l, k), load<Vec>(at(l, k)) + (from[k] == p ? to_left[k] : Vec{}));
            }
            for (int k = 0; k < vectors * kParts; k++) {
              store(at(r, k), load<Vec>(at(r, k)) + (from[k] == p ? to_right[k] : Vec{}));
            }
          }
        }
      }
    }
    Sum* to = static_cast<Sum*>(sums) + 4 * tree * (leaves - 1);
    for (int j = 0; j < leaves - 1; j++, to += 4) {
      Vec s[4];
      for (int q = 0; q < 4; q++) s[q] = work.sums[4 * j + q];
      Sum total[4];
      sum_lanes(s, total);
      for (int q = 0; q < 4; q++) to[q] += total[q];
    }
    if (!kLearned) continue;
    Sum* share = static_cast<Sum*>(shares) + tree * shape.choices();
    for (int64_t first = 0; first < shape.choices(); first += 4) {
      Vec s[4];
      for (int q = 0; q < 4; q++) s[q] = work.choice_sums[first + q];
      Sum total[4];
      sum_lanes(s, total);
      for (int64_t q = 0; q < 4 && first + q < shape.choices(); q++) share[first + q] += total[q];
    }
  }
}

template <typename S>
void tree_forward(const TreeForward& call, const Tile& tile, int64_t begin, int64_t end, void* scratch) {
  const int64_t leaves = call.shape.leaves;
  const auto run = leaves == 8   ? &SmallTree<S, 8>::forward
                   : leaves == 4 ? &SmallTree<S, 4>::forward
                   : leaves == 2 ? &SmallTree<S, 2>::forward
                                 : &large_tree_forward<S>;
  run(call, tile, begin, end, scratch);
}

template <typename S>
void tree_backward(const TreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                   int64_t grad_x_pitch, void* sums, void* shares, void* scratch) {
  const int64_t leaves = call.shape.leaves;
  if (call.shape.candidates > 0 || leaves > 8) {
    const auto run = call.shape.candidates > 0 ? &large_tree_backward<S, true> : &large_tree_backward<S, false>;
    return run(call, tile, begin, end, grad_x, grad_x_pitch, sums, shares, scratch);
  }
  const auto run = leaves == 8   ? &SmallTree<S, 8>::backward
                   : leaves == 4 ? &SmallTree<S, 4>::backward
                                 : &SmallTree<S, 2>::backward;
  run(call, tile, begin, end, grad_x, grad_x_pitch, sums, scratch);
}

template <typename S>
int64_t tree_scratch_bytes(const TreeShape& shape) {
  return TreeWorkspace<S>(shape, nullptr).bytes;
}

template <typename S>
constexpr TreeKernels tree_kernels() {
  return {&tree_scratch_bytes<S>, &tree_forward<S>, &tree_backward<S>};
}

}  // namespace
}  // namespace lgn
