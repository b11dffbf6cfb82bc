// Trees of hard gates on packed bits, with the OR of pooling windows: straight-through training of convolutions.
#include "bit_tree.h"
#include "tree_backward.cuh"

namespace lgn::cuda {
namespace {

constexpr int kWordBytes = 8;
constexpr int kHalves = 2;  // 32 bits each

// A thread has a word of samples of a window of a tree; words and windows run along threads, so that neighbours read
// neighbouring memory and the same tree.
template <int N>
__global__ void __launch_bounds__(kThreads)
    bit_forward_kernel(const TreeArgs args, const uint8_t* __restrict__ gates, int64_t windows, int64_t words,
                       int digits, uint8_t* __restrict__ y, uint8_t* __restrict__ winner, int64_t pitch) {
  constexpr int kLeaves = N > 0 ? N : kMaxLeaves;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, word = thread % words, out_row = thread / words;
  const auto tree = static_cast<int32_t>(out_row / windows), window = static_cast<int32_t>(out_row % windows);
  if (tree >= args.trees) return;
  const int n = N > 0 ? N : 1 << args.depth;
  BitGate gate[kLeaves - 1];
#pragma unroll
  for (int j = 0; j < n - 1; j++) gate[j] = bit_gate_of(__ldg(gates + int64_t{tree} * (n - 1) + j));
  int32_t channel_row[kLeaves], line[kLeaves], column[kLeaves];
  const int64_t plane = int64_t{args.trees} * n;
#pragma unroll
  for (int leaf = 0; leaf < n; leaf++) {
    const int32_t* from = args.leaves + int64_t{tree} * n + leaf;
    channel_row[leaf] = __ldg(from) * args.height * args.width;
    line[leaf] = __ldg(from + plane);
    column[leaf] = __ldg(from + 2 * plane);
  }

  const uint8_t* x = static_cast<const uint8_t*>(args.x) + word * kWordBytes;
  const int32_t window_line = window / args.out_width, window_column = window - window_line * args.out_width;
  uint32_t any[kHalves] = {}, digit[kMaxWinnerDigits][kHalves] = {};
  int32_t place = 0;
  for (int32_t i = 0; i < args.pool[0]; i++) {
    const int32_t top = (window_line * args.pool[0] + i) * args.stride[0] - args.padding[0];
    for (int32_t j = 0; j < args.pool[1]; j++, place++) {
      const int32_t left = (window_column * args.pool[1] + j) * args.stride[1] - args.padding[1];
      uint32_t node[kHalves][2 * kLeaves - 1];
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) {
        const int32_t v = top + line[leaf], u = left + column[leaf];
        const bool inside = v >= 0 && v < args.height && u >= 0 && u < args.width;
        uint2 raw{0, 0};
        if (inside) {
          const int32_t row = channel_row[leaf] + v * args.width + u;
          raw = *reinterpret_cast<const uint2*>(x + row * args.x_pitch);
        }
        node[0][leaf] = raw.x;
        node[1][leaf] = raw.y;
      }
#pragma unroll
      for (int half = 0; half < kHalves; half++) {
        evaluate_tree(gate, n, node[half]);
        const uint32_t root = node[half][2 * n - 2], wins = root & ~any[half];
        any[half] |= root;
#pragma unroll
        for (int k = 0; k < kMaxWinnerDigits; k++) digit[k][half] |= place >> k & 1 ? wins : 0;
      }
    }
  }
  const int64_t to = out_row * pitch + word * kWordBytes, digit_bytes = args.trees * windows * pitch;
  *reinterpret_cast<uint2*>(y + to) = {any[0], any[1]};
#pragma unroll
  for (int k = 0; k < kMaxWinnerDigits; k++) {
    if (k < digits) *reinterpret_cast<uint2*>(winner + k * digit_bytes + to) = {digit[k][0], digit[k][1]};
  }
}

// Which place of each window won, digit by digit.
struct BitWinners {
  static constexpr int kVec = kTreeVec<float>;
  static_assert(kVec * kMaxWinnerDigits == 32);

  struct Loaded {
    uint32_t digits;  // four bits of a digit beside those of the next
    // Bit i is set if the place won for sample i.
    __device__ __forceinline__ uint32_t at(int32_t place) const {
      uint32_t wanted = static_cast<uint32_t>(place);  // digit k goes to bit 4k
      wanted = (wanted | wanted << 12) & 0x000f000fu;
      wanted = (wanted | wanted << 6) & 0x03030303u;
      wanted = (wanted | wanted << 3) & 0x11111111u;
      uint32_t same = ~(digits ^ wanted * 15);
      same &= same >> 16;
      same &= same >> 8;
      same &= same >> 4;
      return same & 15;
    }
  };

  const uint8_t* winner;
  int64_t pitch, digit_bytes;
  int digits;

  __device__ __forceinline__ Loaded load(int64_t out_row, int64_t at) const {
    const uint8_t* from = winner + out_row * pitch + at / 8;
    uint32_t made = 0;
#pragma unroll
    for (int k = 0; k < kMaxWinnerDigits; k++) {
      if (k < digits) made |= (uint32_t{from[k * digit_bytes]} >> (at % 8) & 15) << (kVec * k);
    }
    return {made};
  }
};

struct BitTrees {
  using Element = float;
  using Gates = BitGate;
  using Winners = BitWinners;

  template <int Leaves>
  struct Trees {
    uint32_t node[2 * Leaves - 1];  // a bit a sample

    __device__ __forceinline__ void clear(int n) {
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) node[leaf] = 0;
    }
    __device__ __forceinline__ void take(int leaf, uint32_t samples, const BitTrees& input, int32_t row, int64_t at) {
      node[leaf] |= uint32_t{input.x[row * input.pitch + at / 8]} >> (at % 8) & samples;
    }
    __device__ __forceinline__ void evaluate(const BitGate* gates, int n) { evaluate_tree(gates, n, node); }
    __device__ __forceinline__ void nodes(const BitGate*, int n, int i, float (&out)[2 * Leaves - 1]) const {
#pragma unroll
      for (int k = 0; k < 2 * n - 1; k++) out[k] = bit_value(node[k], i);
    }
  };

  const uint8_t* x;
  int64_t pitch;
  const uint8_t* ids;
  Winners winners;

  __device__ __forceinline__ void load_gates(int32_t tree, int gates, int lane, BitGate* out) const {
    for (int j = lane; j < gates; j += kWarp) out[j] = bit_gate_of(__ldg(ids + int64_t{tree} * gates + j));
  }
  // Slices begin at whole tiles, so at whole bytes.
  BitTrees from(int64_t sample) const {
    BitTrees made = *this;
    made.x += sample / 8;
    made.winners.winner += sample / 8;
    return made;
  }
};

}  // namespace

int winner_digits(const TreeArgs& tree) {
  int digits = 0;
  while (1 << digits < tree.pool[0] * tree.pool[1]) digits++;
  return digits;
}

void bit_tree_forward(const TreeArgs& tree, const uint8_t* gates, uint8_t* y, uint8_t* winner, int64_t pitch,
                      cudaStream_t stream) {
  const int64_t windows = windows_of(tree), words = ceil_div(tree.batch, 8 * kWordBytes);
  for_leaves(tree.depth, [&](auto leaves) {
    launch(&bit_forward_kernel<decltype(leaves)::value>, ceil_div(tree.trees * windows * words, kThreads), stream, tree,
           gates, windows, words, winner_digits(tree), y, winner, pitch);
  });
}

void bit_tree_backward(const TreeArgs& tree, const uint8_t* gates, const TreeGradientArgs& to, cudaStream_t stream) {
  const int64_t digit_bytes = tree.trees * windows_of(tree) * to.winner_pitch;
  const BitTrees input{static_cast<const uint8_t*>(tree.x),
                       tree.x_pitch,
                       gates,
                       {to.winner, to.winner_pitch, digit_bytes, winner_digits(tree)}};
  for_leaves(tree.depth, [&](auto leaves) {
    backward_on<decltype(leaves)::value>(input, tree, to, stream, [](const auto&...) {});
  });
}

}  // namespace lgn::cuda
