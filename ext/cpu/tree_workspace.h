// What the kernels of trees share: a tree's gates, the addresses of its leaves, and winners of a pooling window.
#pragma once

#include "simd.h"

namespace lgn {
namespace {

// y = c0 + ca·a + cb·b + cab·ab
template <typename T>
struct GateLine {
  T c0, ca, cb, cab;
};

alignas(64) constexpr char kZeroRow[kTreeLines * kLineBytes] = {};

// Cuts memory into arrays of whole lines; without memory it counts what they would take.
class CutLines {
 public:
  explicit CutLines(void* memory) : start_(reinterpret_cast<uintptr_t>(memory)), next_(start_) {}
  template <typename T>
  void operator()(T*& part, int64_t count) {
    part = reinterpret_cast<T*>(next_);
    next_ += (static_cast<uintptr_t>(count) * sizeof(T) + kLineBytes - 1) / kLineBytes * kLineBytes;
  }
  int64_t bytes() const { return static_cast<int64_t>(next_ - start_); }

 private:
  uintptr_t start_, next_;
};

// What the kernels need for one tree, in the caller's memory.
template <typename S>
struct TreeWorkspace {
  typedef typename Storage<S>::Sum Sum;
  typedef typename Storage<S>::Vec Vec;
  // A node is a row of unpacked numbers.
  static constexpr int64_t kNodeBytes = kTreeLines * kLineBytes * Storage<S>::kParts;

  // Where leaves are, relative to the place of the tree.
  struct Places {
    int64_t count;
    int64_t *channel, *line, *column;  // [count]
  };

  GateLine<Sum>* gate;   // [N-1]
  GateLine<Sum>* slope;  // [N-1]
  Vec* sums;             // [N-1][4]
  char* value;           // [2N-1] nodes
  char* grad;            // [2N-1] nodes
  char* outside;         // one node: where gradients of the padding go
  int64_t* row;          // [pool][N] addresses of leaves
  int64_t* grad_row;     // [pool][N]
  Places leaves;
  Places candidates;    // [N · candidates]
  int64_t* choice_row;  // [pool][N · candidates]
  Vec* choice_sums;     // [N · candidates], of whole fours
  int64_t bytes;

  TreeWorkspace(const TreeShape& shape, void* memory) {
    CutLines take(memory);
    const int64_t n = shape.leaves;
    take(gate, n - 1);
    take(slope, n - 1);
    take(sums, 4 * (n - 1));
    take(value, (2 * n - 1) * kNodeBytes);
    take(grad, (2 * n - 1) * kNodeBytes);
    take(outside, kNodeBytes);
    take(row, shape.pool() * n);
    take(grad_row, shape.pool() * n);
    for (Places* places : {&leaves, &candidates}) {
      places->count = places == &leaves ? n : shape.choices();
      take(places->channel, places->count);
      take(places->line, places->count);
      take(places->column, places->count);
    }
    take(choice_row, shape.pool() * shape.choices());
    take(choice_sums, (shape.choices() + 3) / 4 * 4);
    bytes = take.bytes();
  }

  // `leaf` is [3][trees][to.count].
  static void read_places(const TreeShape& shape, const int32_t* leaf, int64_t tree, const Places& to) {
    const int64_t part = shape.trees * to.count;
    leaf += tree * to.count;
    for (int64_t l = 0; l < to.count; l++) {
      to.channel[l] = leaf[l] * shape.height * shape.width;
      to.line[l] = leaf[part + l] - shape.pad_h;
      to.column[l] = leaf[2 * part + l] - shape.pad_w;
    }
  }

  static void read_gates(const void* table, int64_t first, int64_t gates, GateLine<Sum>* out) {
    const Sum* t = static_cast<const Sum*>(table) + 4 * first;
    for (int64_t j = 0; j < gates; j++, t += 4) out[j] = {t[0], t[2] - t[0], t[1] - t[0], t[3] - t[2] - t[1] + t[0]};
  }

  // Addresses of the rows of leaves in `rows`, for the positions of the window at line `top`, column `side` of the
  // output; `other` for leaves outside the image.
  static LGN_INLINE void find_rows(const TreeShape& shape, const Places& of, int64_t top, int64_t side,
                                   const char* rows, int64_t pitch, const char* other, int64_t* out) {
    const auto start = reinterpret_cast<int64_t>(rows), elsewhere = reinterpret_cast<int64_t>(other);
    const auto height = static_cast<uint64_t>(shape.height), width = static_cast<uint64_t>(shape.width);
    for (int64_t i = 0; i < shape.pool_h; i++) {
      const int64_t y = (top * shape.pool_h + i) * shape.stride_h;
      for (int64_t j = 0; j < shape.pool_w; j++, out += of.count) {
        const int64_t x = (side * shape.pool_w + j) * shape.stride_w;
        for (int64_t l = 0; l < of.count; l++) {
          const int64_t at_y = of.line[l] + y, at_x = of.column[l] + x;
          const bool inside = (static_cast<uint64_t>(at_y) < height) & (static_cast<uint64_t>(at_x) < width);
          const int64_t address = start + (of.channel[l] + at_y * shape.width + at_x) * pitch;
          out[l] = inside ? address : elsewhere;
        }
      }
    }
  }
};

// Winners as integers of the width of sums, in the order of Storage<S>::unpack.
template <typename S>
struct Winners {
  typedef typename VectorOf<typename Storage<S>::Sum>::Int Int;
  typedef uint8_t Bytes __attribute__((vector_size(kLanes<S>)));
  static constexpr int kBytes = kLanes<S>;
  static LGN_INLINE void read(const uint8_t* p, Int* out) {
    Bytes bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    out[0] = __builtin_convertvector(bytes, Int);
  }
  static LGN_INLINE void write(uint8_t* p, const Int* in) {
    const Bytes bytes = __builtin_convertvector(in[0], Bytes);
    std::memcpy(p, &bytes, sizeof bytes);
  }
};
template <>
struct Winners<Bf16> {
  static constexpr int kBytes = kVectorBytes / 2;
  typedef uint8_t Bytes __attribute__((vector_size(kBytes)));
  typedef uint16_t Shorts __attribute__((vector_size(kVectorBytes)));
  static LGN_INLINE void read(const uint8_t* p, VecI* out) {
    const VecU both = (VecU) __builtin_convertvector(load<Bytes>(p), Shorts);
    out[0] = (VecI)(both & 0xffffu);
    out[1] = (VecI)(both >> 16);
  }
  static LGN_INLINE void write(uint8_t* p, const VecI* in) {
    store(p, __builtin_convertvector((Shorts)((VecU)in[0] | (VecU)in[1] << 16), Bytes));
  }
};

}  // namespace
}  // namespace lgn
