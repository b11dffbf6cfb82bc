// The backward pass of trees of gates on rows of samples, and how all backward passes of trees share the work.
#include "tree_backward.cuh"

namespace lgn::cuda {
namespace {

// Which place of each window won, in a byte a sample.
template <int V>
struct ByteWinners {
  struct Loaded {
    uint8_t place[V];
    // Bit i is set if the place won for sample i.
    __device__ __forceinline__ uint32_t at(int32_t here) const {
      uint32_t won = 0;
#pragma unroll
      for (int i = 0; i < V; i++) won |= uint32_t{place[i] == here} << i;
      return won;
    }
  };

  const uint8_t* winner;  // null if windows have one place
  int64_t pitch;

  __device__ __forceinline__ Loaded load(int64_t out_row, int64_t at) const {
    Loaded made{};
    if (winner != nullptr) load_bytes(winner + out_row * pitch + at, made.place);
    return made;
  }
};

template <typename T>
struct RowTrees {
  using Element = T;
  using S = SumOf<T>;
  using Gates = Gate<S>;
  using Winners = ByteWinners<kTreeVec<T>>;
  using Row = Samples<T, kTreeVec<T>>;

  template <int Leaves>
  struct Trees {
    Row chosen[Leaves];

    __device__ __forceinline__ void clear(int n) {
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) chosen[leaf] = Row::zero();
    }
    __device__ __forceinline__ void take(int leaf, uint32_t samples, const RowTrees& input, int32_t row, int64_t at) {
      chosen[leaf].take(Row::mask(samples), Row::load(input.x + row * input.pitch + at));
    }
    __device__ __forceinline__ void evaluate(const Gates*, int) {}
    __device__ __forceinline__ void nodes(const Gates* gates, int n, int i, S (&node)[2 * Leaves - 1]) const {
#pragma unroll
      for (int leaf = 0; leaf < n; leaf++) node[leaf] = chosen[leaf].get(i);
      evaluate_tree(gates, n, node);
    }
  };

  const T* x;
  int64_t pitch;
  const S* table;
  Winners winners;

  __device__ __forceinline__ void load_gates(int32_t tree, int gates, int lane, Gates* out) const {
    cuda::load_gates(table, tree, gates, lane, out);
  }
  RowTrees from(int64_t sample) const {
    return {x + sample, pitch, table, {winners.winner == nullptr ? nullptr : winners.winner + sample, winners.pitch}};
  }
};

template <typename T, int N>
void backward(const TreeArgs& tree, const TreeGradientArgs& to, cudaStream_t stream) {
  using S = SumOf<T>;
  const RowTrees<T> input{
      static_cast<const T*>(tree.x), tree.x_pitch, static_cast<const S*>(tree.table), {to.winner, to.winner_pitch}};
  const int64_t runs_a_tile = ceil_div(windows_of(tree), to.share.windows),
                fours = (int64_t{tree.trees} << tree.depth) * ceil_div(to.choices.count, 4);
  auto* sums = static_cast<S*>(to.choices.run_sums);
  backward_on<N>(input, tree, to, stream, [&](TreeArgs slice, const RowTrees<T>& part, int64_t tiles) {
    if (to.choices.candidates == nullptr) return;
    slice.x = part.x;
    tree_choices(slice, to.choices, part.winners.winner, to.winner_pitch, to.share.windows, to.leaf_grads,
                 to.share.samples, sums, stream);
    sums += tiles * runs_a_tile * fours * 4;
  });
  if (to.choices.candidates == nullptr) return;
  finish<S>(to.choices.run_sums, to.share.runs, fours, to.choices.grad_shares, stream);
}

}  // namespace

TreeShare tree_share(const TreeArgs& tree, int64_t leaf_bytes) {
  const int64_t tile = kWarp * (tree.storage == Storage::kF64 ? 2 : 4), tiles = tree_tiles(tree.storage, tree.batch),
                rows = tree.trees * windows_of(tree) << tree.depth,
                bytes = rows * tile * (tree.storage == Storage::kF64 ? 8 : 4);
  TreeShare share{};
  const int64_t slice = std::clamp<int64_t>(leaf_bytes / std::max<int64_t>(bytes, 1), 1, tiles);
  share.samples = slice * tile;
  share.windows = run_windows(tree, slice);
  share.runs = tiles * ceil_div(windows_of(tree), share.windows);
  return share;
}

void tree_backward(const TreeArgs& tree, const TreeGradientArgs& gradient, cudaStream_t stream) {
  for_tree(tree.storage, tree.depth, [&](auto element, auto leaves) {
    backward<decltype(element), decltype(leaves)::value>(tree, gradient, stream);
  });
}

}  // namespace lgn::cuda
