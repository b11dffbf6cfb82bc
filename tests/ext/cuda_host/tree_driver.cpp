// The kernels of tree convolutions as plain functions on host memory, for test_cuda_tree.py.
#include "cuda_on_host.h"
// After the stand-ins for CUDA's keywords:
#include "../../../ext/cuda/bit_tree.cu"
#include "../../../ext/cuda/tree_backward.cu"
#include "../../../ext/cuda/tree_choices.cu"
#include "../../../ext/cuda/tree_forward.cu"
#include "../../../ext/cuda/tree_plan.h"

using namespace lgn::cuda;

extern "C" {

// `shape`: depth, trees, channels, height, width, stride, padding, pool (two each), output height and width.
static TreeArgs tree_args(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                          const int32_t* leaves, const int32_t* shape) {
  TreeArgs args{static_cast<Storage>(storage), shape[0], batch, x, x_pitch, table, leaves};
  args.trees = shape[1], args.channels = shape[2], args.height = shape[3], args.width = shape[4];
  for (int i = 0; i < 2; i++) {
    args.stride[i] = shape[5 + i], args.padding[i] = shape[7 + i], args.pool[i] = shape[9 + i];
  }
  args.out_height = shape[11], args.out_width = shape[12];
  return args;
}

void host_tree_forward(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                       const int32_t* leaves, const int32_t* shape, void* y, int64_t y_pitch, uint8_t* winner,
                       int64_t winner_pitch) {
  tree_forward(tree_args(storage, batch, x, x_pitch, table, leaves, shape), y, y_pitch, winner, winner_pitch, nullptr);
}

// Samples of a slice, windows of a run, runs.
void host_tree_share(int32_t storage, int64_t batch, const int32_t* shape, int64_t leaf_bytes, int64_t* out) {
  const TreeShare share = tree_share(tree_args(storage, batch, nullptr, 0, nullptr, nullptr, shape), leaf_bytes);
  out[0] = share.samples, out[1] = share.windows, out[2] = share.runs;
}

// Returns a leaf outside the receptive field, or -1.
int64_t host_tree_backward(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                           const int32_t* leaves, const int32_t* shape, const int32_t* kernel, int64_t leaf_bytes,
                           const void* slopes, const void* grad, int64_t grad_pitch, const uint8_t* winner,
                           int64_t winner_pitch, void* grad_table, void* run_sums, void* grad_x, int64_t grad_x_pitch,
                           void* leaf_grads, const int32_t* candidates, int64_t count, void* grad_shares,
                           void* choice_sums) {
  const TreeArgs args = tree_args(storage, batch, x, x_pitch, table, leaves, shape);
  const TreeUses uses = make_tree_uses(leaves, args.trees, 1 << args.depth, args.channels, kernel[0], kernel[1]);
  if (uses.bad_leaf >= 0) return uses.bad_leaf;
  tree_backward(args,
                {tree_share(args, leaf_bytes),
                 slopes,
                 grad,
                 grad_pitch,
                 winner,
                 winner_pitch,
                 grad_table,
                 run_sums,
                 leaf_grads,
                 grad_x,
                 grad_x_pitch,
                 uses.uses.data(),
                 uses.begin.data(),
                 {candidates, count, {kernel[0], kernel[1]}, grad_shares, choice_sums}},
                nullptr);
  return -1;
}

// x, y and winner being packed bits, their pitches in bytes.
void host_bit_tree_forward(int64_t batch, const void* x, int64_t x_pitch, const uint8_t* gates, const int32_t* leaves,
                           const int32_t* shape, uint8_t* y, uint8_t* winner, int64_t pitch) {
  bit_tree_forward(tree_args(0, batch, x, x_pitch, nullptr, leaves, shape), gates, y, winner, pitch, nullptr);
}
void host_bit_tree_backward(int64_t batch, const void* x, int64_t x_pitch, const uint8_t* gates, const int32_t* leaves,
                            const int32_t* shape, const int32_t* kernel, int64_t leaf_bytes, const void* slopes,
                            const void* grad, int64_t grad_pitch, const uint8_t* winner, int64_t winner_pitch,
                            void* grad_table, void* run_sums, void* grad_x, int64_t grad_x_pitch, void* leaf_grads) {
  const TreeArgs args = tree_args(0, batch, x, x_pitch, nullptr, leaves, shape);
  const TreeUses uses = make_tree_uses(leaves, args.trees, 1 << args.depth, args.channels, kernel[0], kernel[1]);
  bit_tree_backward(args, gates,
                    {tree_share(args, leaf_bytes), slopes, grad, grad_pitch, winner, winner_pitch, grad_table, run_sums,
                     leaf_grads, grad_x, grad_x_pitch, uses.uses.data(), uses.begin.data()},
                    nullptr);
}

}  // extern "C"
