// Straight-through convolution with trees on packed samples (lgn_lightning/ops/bit_tree.py).
#include "bit_tree.h"

#include <limits>
#include <tuple>

#include "bits_tensors.h"
#include "tree_tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

Tensor round_to_bits(const Tensor& x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::round_to_bits(x);
  return pack(flat(x)).view({(x.size(0) + 63) / 64, x.size(1), x.size(2), x.size(3)});
}

// The checked arguments that both passes have, in the forms that kernels take.
struct BitTreeConv {
  Tensor x, gates, leaves;
  TreeArgs args;
  std::shared_ptr<const DeviceTreeUses> uses;

  BitTreeConv(const Tensor& words, int64_t batch, const Tensor& gates_in, const Tensor& leaves_in,
              const ConvSizes& sizes)
      : gates(gates_in.contiguous()), leaves(leaves_in.contiguous()) {
    check_tree_gates(gates, leaves);
    args = tree_args(words, leaves, sizes);
    args.batch = batch;
    if (empty()) return;
    uses = cached_tree_uses(leaves, args.channels, sizes.kernel[0], sizes.kernel[1]);  // checks the leaves
    x = whole_rows(flat(words), batch);
    args.x = x.const_data_ptr();
    args.x_pitch = byte_pitch(x);
  }

  int64_t gate_count() const { return leaves.size(1) * (leaves.size(2) - 1); }
  bool empty() const { return args.batch == 0 || args.trees == 0 || args.channels == 0; }
};

std::tuple<Tensor, Tensor> bit_tree_conv(const Tensor& words, const Tensor& gates, const Tensor& leaves,
                                         at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                                         at::IntArrayRef pool) {
  const c10::cuda::CUDAGuard guard(words.device());
  arguments::bit_tree_conv(words, gates, leaves);
  const int64_t rows = words.size(0), batch = 64 * rows;
  const BitTreeConv conv(words, batch, gates, leaves, {kernel_size, stride, padding, pool});
  const TreeArgs& args = conv.args;
  const int64_t digits = winner_digits(args);
  const Tensor y = new_words(batch, out_rows(args), words), winner = new_words(batch, digits * out_rows(args), words);
  if (!conv.empty()) {
    bit_tree_forward(args, conv.gates.const_data_ptr<uint8_t>(), static_cast<uint8_t*>(y.mutable_data_ptr()),
                     static_cast<uint8_t*>(winner.mutable_data_ptr()), bit_pitch(batch), stream_of(words));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {y.view({rows, args.trees, args.out_height, args.out_width}),
          winner.view({rows, digits, args.trees, args.out_height, args.out_width})};
}

std::tuple<Tensor, Tensor> bit_tree_conv_backward(const Tensor& grad, const Tensor& winner_in, const Tensor& words,
                                                  const Tensor& gates, const Tensor& soft_table, const Tensor& leaves,
                                                  at::IntArrayRef kernel_size, at::IntArrayRef stride,
                                                  at::IntArrayRef padding, at::IntArrayRef pool, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(grad.device());
  arguments::bit_tree_conv_backward(grad, winner_in, words, gates, soft_table, leaves);
  const int64_t batch = grad.size(0), rows = (batch + 63) / 64;
  const BitTreeConv conv(words, batch, gates, leaves, {kernel_size, stride, padding, pool});
  const TreeArgs& args = conv.args;
  const int64_t digits = winner_digits(args);
  check_output(grad, args.out_height, args.out_width);
  check_rows(winner_in, batch);
  TORCH_CHECK_VALUE(winner_in.size(1) == digits, "winner must be what the forward pass gave");
  const auto options = grad.options().dtype(at::kFloat);
  const Tensor grad_x = need_grad_x ? new_image(grad, batch, args.channels, args.height, args.width, at::kFloat)
                                    : at::empty({0}, options);
  if (conv.empty()) {
    if (need_grad_x) grad_x.zero_();
    return {grad_x, at::zeros({conv.gate_count(), 4}, options)};
  }
  const Tensor grad_table = at::empty({conv.gate_count(), 4}, options), slopes = plain(soft_table, at::kFloat);
  const Tensor upper = feature_major(flat(grad.to(at::kFloat)));
  const Tensor winner = whole_rows(winner_in.reshape({rows, digits * out_rows(args)}), batch);
  TreeGradientArgs to{};
  to.share = tree_share(args, need_grad_x ? kLeafBytes : std::numeric_limits<int64_t>::max());
  const Tensor run_sums = at::empty({to.share.runs * grad_table.numel()}, options);
  const int64_t leaf_rows = need_grad_x ? out_rows(args) << args.depth : 0;
  const Tensor leaf_grads = at::empty({leaf_rows * to.share.samples}, options);
  to.slopes = slopes.const_data_ptr();
  to.grad = upper.const_data_ptr();
  to.grad_pitch = upper.stride(1);
  to.winner = bytes_of(winner);
  to.winner_pitch = byte_pitch(winner);
  to.grad_table = grad_table.mutable_data_ptr();
  to.run_sums = run_sums.mutable_data_ptr();
  if (need_grad_x) {
    to.leaf_grads = leaf_grads.mutable_data_ptr();
    to.grad_x = grad_x.mutable_data_ptr();
    to.grad_x_pitch = flat(grad_x).stride(1);
    to.uses = conv.uses->data();
    to.uses_begin = conv.uses->begin.const_data_ptr<int32_t>();
  }
  bit_tree_backward(args, conv.gates.const_data_ptr<uint8_t>(), to, stream_of(grad));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_table};
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("round_to_bits", &lgn::cuda::round_to_bits);
  m.impl("bit_tree_conv", &lgn::cuda::bit_tree_conv);
  m.impl("bit_tree_conv_backward", &lgn::cuda::bit_tree_conv_backward);
}
