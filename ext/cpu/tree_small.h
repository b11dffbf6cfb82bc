// The kernels of tree.h for trees of 2, 4 or 8 leaves, whose nodes stay in registers: one vector of samples goes
// through the whole tree before the next one is loaded.
#pragma once

#include <limits>

#include "tree_workspace.h"

// Loops over the nodes of a tree have to disappear, or nodes are an array in memory.
#define LGN_UNROLL _Pragma("GCC unroll 16")

namespace lgn {
namespace {

// One number for each leaf. All leaves at once, so that finding their rows costs little beside the tree.
template <int kLeaves>
struct LeafVector;
template <>
struct LeafVector<2> {
  typedef int64_t Signed __attribute__((vector_size(16)));
  typedef uint64_t Unsigned __attribute__((vector_size(16)));
};
template <>
struct LeafVector<4> {
  typedef int64_t Signed __attribute__((vector_size(32)));
  typedef uint64_t Unsigned __attribute__((vector_size(32)));
};
template <>
struct LeafVector<8> {
  typedef int64_t Signed __attribute__((vector_size(64)));
  typedef uint64_t Unsigned __attribute__((vector_size(64)));
};

template <typename S, int kLeaves>
struct SmallTree {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  typedef typename VectorOf<Sum>::Int Int;
  typedef TreeWorkspace<S> Workspace;
  static constexpr int kParts = St::kParts, kGates = kLeaves - 1, kRoot = kGates - 1;

  typedef typename LeafVector<kLeaves>::Signed Leaves;
  typedef typename LeafVector<kLeaves>::Unsigned Unsigned;

  // Where the leaves of one tree are.
  struct Places {
    Leaves row, line, column;  // relative to the place of the tree

    Places(const TreeShape& shape, int64_t tree) {
      const int64_t part = shape.trees * kLeaves;
      const int32_t* leaf = shape.leaf + tree * kLeaves;
      for (int l = 0; l < kLeaves; l++) {
        line[l] = leaf[part + l] - shape.pad_h;
        column[l] = leaf[2 * part + l] - shape.pad_w;
        row[l] = (leaf[l] * shape.height + line[l]) * shape.width + column[l];
      }
    }

    // Calls sink(p, inside, rows) for every position p of the window at line `top`, column `side` of the output: which
    // leaves are in the image, and the numbers of their rows.
    template <typename Sink>
    LGN_INLINE void visit(const TreeShape& shape, int64_t top, int64_t side, const Sink& sink) const {
      const Unsigned height = Unsigned{} + static_cast<uint64_t>(shape.height);
      const Unsigned width = Unsigned{} + static_cast<uint64_t>(shape.width);
      for (int64_t i = 0, p = 0; i < shape.pool_h; i++) {
        const int64_t y = (top * shape.pool_h + i) * shape.stride_h;
        for (int64_t j = 0; j < shape.pool_w; j++, p++) {
          const int64_t x = (side * shape.pool_w + j) * shape.stride_w;
          const Leaves inside = ((Unsigned)(line + y) < height) & ((Unsigned)(column + x) < width);
          sink(p, inside, row + (y * shape.width + x));
        }
      }
    }
  };

  static LGN_INLINE void store_addresses(int64_t* out, Leaves inside, Leaves rows, const char* start, int64_t pitch,
                                         const char* elsewhere) {
    const Leaves address = rows * pitch + reinterpret_cast<int64_t>(start);
    store(out, inside ? address : Leaves{} + reinterpret_cast<int64_t>(elsewhere));
  }

  static LGN_INLINE const char* at(int64_t address, int64_t offset) {
    return reinterpret_cast<const char*>(address + offset);
  }

  // From the leaves n[0 … kLeaves-1] to all nodes.
  static LGN_INLINE void evaluate(const GateLine<Sum>* gate, Vec (&n)[2 * kLeaves - 1]) {
    LGN_UNROLL
    for (int j = 0; j < kGates; j++) {
      const GateLine<Sum>& c = gate[j];
      const Vec a = n[2 * j], b = n[2 * j + 1];
      n[kLeaves + j] = fma(fma(Vec{} + c.cab, a, Vec{} + c.cb), b, fma(Vec{} + c.ca, a, Vec{} + c.c0));
    }
  }

  static void forward(const TreeForward& call, const Tile& tile, int64_t begin, int64_t end, void* scratch) {
    const TreeShape& shape = call.shape;
    const int vectors = tile.lines * kLineVectors, pool = static_cast<int>(shape.pool());
    Workspace work(shape, scratch);
    const char* x = call.x + tile.offset;
    const int64_t windows = shape.out_height * shape.out_width;
    for (int64_t tree = begin; tree < end; tree++) {
      const Places places(shape, tree);
      work.read_gates(call.table, tree * kGates, kGates, work.gate);
      for (int64_t window = 0; window < windows; window++) {
        places.visit(shape, window / shape.out_width, window % shape.out_width,
                     [&](int64_t p, Leaves inside, Leaves rows) __attribute__((always_inline)) {
                       store_addresses(work.row + p * kLeaves, inside, rows, x, call.x_pitch, kZeroRow);
                     });
        const int64_t out = tree * windows + window;
        char* y = call.y + out * call.y_pitch + tile.offset;
        uint8_t* winner = nullptr;
        if (call.winner != nullptr) {
          winner = call.winner + out * call.winner_pitch + tile.offset / static_cast<int64_t>(sizeof(S));
        }
        for (int v = 0; v < vectors; v++) {
          Vec best[kParts];
          Int from[kParts];
          for (int u = 0; u < kParts; u++) {
            // The first of equals wins, and a NaN wins against every number, as in torch.
            best[u] = Vec{} + std::numeric_limits<Sum>::quiet_NaN();
            from[u] = Int{};
            const int64_t* row = work.row;
            for (int p = 0; p < pool; p++, row += kLeaves) {
              Vec n[2 * kLeaves - 1];
              LGN_UNROLL
              for (int l = 0; l < kLeaves; l++) n[l] = St::part(at(row[l], v * kVectorBytes), u);
              evaluate(work.gate, n);
              const Vec value = n[kLeaves + kRoot];
              const auto stays = best[u] >= value;
              best[u] = stays ? best[u] : value;
              from[u] = stays ? from[u] : Int{} + p;
            }
          }
          store(y + v * kVectorBytes, St::pack(best));
          if (winner != nullptr) Winners<S>::write(winner + v * Winners<S>::kBytes, from);
        }
      }
    }
  }

  static void backward(const TreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                       int64_t grad_x_pitch, void* sums, void* scratch) {
    const TreeShape& shape = call.shape;
    const int vectors = tile.lines * kLineVectors, last = vectors - kLineVectors;
    const int pool = static_cast<int>(shape.pool());
    const TailMask<S> tail(tile);
    Workspace work(shape, scratch);
    std::memset(work.outside, 0, Workspace::kNodeBytes);
    const char* x = call.x + tile.offset;
    const int64_t windows = shape.out_height * shape.out_width;
    for (int64_t tree = begin; tree < end; tree++) {
      const Places places(shape, tree);
      work.read_gates(call.table, tree * kGates, kGates, work.gate);
      work.read_gates(call.slopes, tree * kGates, kGates, work.slope);
      Vec total = {};  // of the gradient of the root
      for (int k = 0; k < 3 * kGates; k++) work.sums[k] = Vec{};
      for (int64_t window = 0; window < windows; window++) {
        const int64_t top = window / shape.out_width, side = window % shape.out_width, out = tree * windows + window;
        places.visit(shape, top, side, [&](int64_t p, Leaves inside, Leaves rows) __attribute__((always_inline)) {
          store_addresses(work.row + p * kLeaves, inside, rows, x, call.x_pitch, kZeroRow);
          store_addresses(work.grad_row + p * kLeaves, inside, rows, grad_x, grad_x_pitch, work.outside);
        });
        const char* above = call.grad + out * call.grad_pitch + tile.offset;
        const uint8_t* winner = nullptr;
        if (call.winner != nullptr) {
          winner = call.winner + out * call.winner_pitch + tile.offset / static_cast<int64_t>(sizeof(S));
        }
        for (int line = 0; line < tile.lines; line++) __builtin_prefetch(above + call.grad_pitch + line * kLineBytes);
        for (int v = 0; v < vectors; v++) {
          Int from[kParts] = {};
          if (winner != nullptr) Winners<S>::read(winner + v * Winners<S>::kBytes, from);
          for (int u = 0; u < kParts; u++) {
            Vec g[2 * kLeaves - 1], n[2 * kLeaves - 1];
            Vec& upper = g[kLeaves + kRoot];
            upper = St::part(above + v * kVectorBytes, u);
            if (v >= last) {
              // Lanes past the batch have no winner: their leaves are zeros, whatever is in the rows.
              const Int mask = tail.mask[(v - last) * kParts + u];
              from[u] |= ~mask;
              upper = masked(upper, mask);
            }
            total += upper;
            LGN_UNROLL
            for (int l = 0; l < kLeaves; l++) n[l] = Vec{};
            const int64_t* row = work.row;
            for (int p = 0; p < pool; p++, row += kLeaves) {
              const auto here = from[u] == p;
              LGN_UNROLL
              for (int l = 0; l < kLeaves; l++) n[l] = here ? St::part(at(row[l], v * kVectorBytes), u) : n[l];
            }
            evaluate(work.gate, n);
            LGN_UNROLL
            for (int j = kRoot; j >= 0; j--) {
              const GateLine<Sum>& c = work.slope[j];
              const Vec upon = g[kLeaves + j], with_a = upon * n[2 * j], with_b = upon * n[2 * j + 1];
              Vec* s = work.sums + 3 * j;
              s[0] += with_a;
              s[1] += with_b;
              s[2] = fma(with_a, n[2 * j + 1], s[2]);
              g[2 * j] = fma(Vec{} + c.cab, with_b, (Vec{} + c.ca) * upon);
              g[2 * j + 1] = fma(Vec{} + c.cab, with_a, (Vec{} + c.cb) * upon);
            }
            if (!grad_x) continue;
            row = work.grad_row;
            for (int p = 0; p < pool; p++, row += kLeaves) {
              const auto here = from[u] == p;
              LGN_UNROLL
              for (int l = 0; l < kLeaves; l++) {
                char* to = reinterpret_cast<char*>(row[l]) + (v * kParts + u) * kVectorBytes;
                const Vec sum = load<Vec>(to);
                store(to, here ? sum + g[l] : sum);
              }
            }
          }
        }
      }
      add_sums(work, total, static_cast<Sum*>(sums) + 4 * tree * kGates);
    }
  }

 private:
  // Adds the sums of g, g·a, g·b and g·a·b of every gate to `to`. Only the root's sum of g was taken: the gradient of a
  // gate's first input is ca·g + cab·g·b, so its sum follows from the sums of the gate above.
  static void add_sums(const Workspace& work, Vec total, Sum* to) {
    Sum of_node[2 * kLeaves - 1], line[4];
    const Vec first[4] = {total};
    sum_lanes(first, line);
    of_node[kLeaves + kRoot] = line[0];
    for (int j = kRoot; j >= 0; j--) {
      const GateLine<Sum>& c = work.slope[j];
      const Vec* s = work.sums + 3 * j;
      const Vec lanes[4] = {Vec{}, s[0], s[1], s[2]};
      sum_lanes(lanes, line);
      line[0] = of_node[kLeaves + j];
      of_node[2 * j] = c.ca * line[0] + c.cab * line[2];
      of_node[2 * j + 1] = c.cb * line[0] + c.cab * line[1];
      for (int q = 0; q < 4; q++) to[4 * j + q] += line[q];
    }
  }
};

}  // namespace
}  // namespace lgn

#undef LGN_UNROLL
