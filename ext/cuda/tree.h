// Interface of the kernels of convolutions with trees of gates.
//
// Images are rows of samples, row (channel · height + line) · width + column. Of the n = 2^depth leaves of a tree,
// nodes 0 … n-1 are the leaves and node n + j is gate j on the nodes 2j and 2j + 1.
#pragma once

#include "rows.h"

namespace lgn::cuda {

constexpr int kMaxTreeDepth = 6;

struct TreeArgs {
  Storage storage;
  int32_t depth;
  int64_t batch;
  const void* x;
  int64_t x_pitch;
  const void* table;      // [trees][n - 1][4]
  const int32_t* leaves;  // [3][trees][n]: channel, and line and column in the kernel
  int32_t trees, channels, height, width;
  int32_t stride[2], padding[2], pool[2];
  int32_t out_height, out_width;  // windows of the pooling
};

// A leaf that reads a channel.
struct alignas(16) TreeUse {
  int32_t tree, leaf, line, column;
};

// How the backward pass shares the work. It depends on the shapes alone, and so do the bits of its sums.
struct TreeShare {
  int64_t samples;  // of a slice of the batch, whose gradients of leaves are in memory at a time
  int64_t windows;  // of a run, which one warp takes
  int64_t runs;     // of all tiles of the batch
};

// Learned leaves: what each may choose among, for the gradient of the candidates' shares.
struct TreeChoiceArgs {
  const int32_t* candidates;  // [trees][n][count]: (channel · lines + line) · columns + column; null of fixed leaves
  int64_t count;
  int32_t kernel[2];  // lines and columns
  void* grad_shares;  // sums [trees][n][count rounded up to fours]
  void* run_sums;     // of each run the same
};

struct TreeGradientArgs {
  TreeShare share;
  const void* slopes;  // the table that gradients pass through
  const void* grad;    // rows of [trees][out_height][out_width]
  int64_t grad_pitch;
  const uint8_t* winner;  // likewise, in bytes; null if the windows have one place
  int64_t winner_pitch;
  void* grad_table;  // [trees][n - 1][4]
  void* run_sums;    // [runs][trees][n - 1][4]
  void* leaf_grads;  // rows [trees][windows][n][samples]; null without grad_x and candidates
  void* grad_x;      // null if it is not wanted, nor is what belongs to it
  int64_t grad_x_pitch;
  const TreeUse* uses;        // by channel
  const int32_t* uses_begin;  // [channels + 1]
  TreeChoiceArgs choices;
};

// Slices are such that gradients of leaves take `leaf_bytes` at most, unless those of one tile take more.
TreeShare tree_share(const TreeArgs& tree, int64_t leaf_bytes);
// `winner` gets the place of the first maximum in each window, unless windows have one place.
void tree_forward(const TreeArgs& tree, void* y, int64_t y_pitch, uint8_t* winner, int64_t winner_pitch,
                  cudaStream_t stream);
void tree_backward(const TreeArgs& tree, const TreeGradientArgs& gradient, cudaStream_t stream);
// Of one slice of the batch: the sums of each of its runs, [runs][trees][n][count rounded up to fours].
void tree_choices(const TreeArgs& slice, const TreeChoiceArgs& choices, const uint8_t* winner, int64_t winner_pitch,
                  int64_t windows_a_run, const void* leaf_grads, int64_t leaf_pitch, void* sums, cudaStream_t stream);

}  // namespace lgn::cuda
