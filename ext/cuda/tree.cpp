// The convolution with trees of gates (lgn_lightning/ops/tree.py): checks, memory formats and streams.
#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include "tree_tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

// Of the leaves of one step, sorted on the device, so that sums have a fixed order and nothing waits.
DeviceTreeUses sorted_uses(const Tensor& leaves, int64_t channels) {
  const int64_t n = leaves.size(2);
  const Tensor places = leaves.flatten(1);
  const auto [sorted, order] = at::sort(places.select(0, 0), /*stable=*/true, 0, false);
  const Tensor uses =
      at::stack({order.floor_divide(n).to(at::kInt), order.remainder(n).to(at::kInt),
                 places.select(0, 1).index_select(0, order), places.select(0, 2).index_select(0, order)},
                1);
  return {uses, at::searchsorted(sorted, at::arange(channels + 1, sorted.options()), /*out_int32=*/true)};
}

// The checked arguments that both passes have, in the forms that kernels take. With candidates the leaves are those of
// a step, which are taken for some of them: looking at them would wait for the device.
struct TreeConv {
  at::ScalarType dtype, sums;
  Tensor x, table, slopes, leaves, candidates;
  TreeArgs args{};
  int32_t kernel[2] = {};
  std::shared_ptr<const DeviceTreeUses> uses;

  TreeConv(const Tensor& x_in, const Tensor& table_in, const std::optional<Tensor>& slopes_in, const Tensor& leaves_in,
           const ConvSizes& sizes, const std::optional<Tensor>& candidates_in = std::nullopt)
      : dtype(x_in.scalar_type()),
        sums(sum_dtype(dtype)),
        table(plain(table_in, sums)),
        slopes(slopes_in ? plain(*slopes_in, sums) : table),
        leaves(leaves_in.contiguous()) {
    check_tree_gates(table, leaves);
    args = tree_args(x_in, leaves, sizes);
    args.storage = storage_of(dtype);
    args.batch = x_in.size(0);
    std::copy(sizes.kernel.begin(), sizes.kernel.end(), kernel);
    if (empty()) return;
    if (candidates_in && candidates_in->numel() > 0) {
      candidates = candidates_in->contiguous();
      check_places(candidates, args.channels, kernel[0], kernel[1]);
    } else {
      uses = cached_tree_uses(leaves, args.channels, kernel[0], kernel[1]);  // checks the leaves
    }
    x = feature_major(flat(x_in));
    args.x = x.const_data_ptr();
    args.x_pitch = x.stride(1);
    args.table = table.const_data_ptr();
  }

  bool empty() const { return args.batch == 0 || args.trees == 0 || args.channels == 0; }
  bool pooled() const { return args.pool[0] * args.pool[1] > 1; }
};

std::tuple<Tensor, Tensor> forward(const TreeConv& conv, const Tensor& x) {
  const TreeArgs& args = conv.args;
  const Tensor y = new_image(x, args.batch, args.trees, args.out_height, args.out_width, conv.dtype);
  const Tensor winner = conv.pooled() ? new_image(x, args.batch, args.trees, args.out_height, args.out_width, at::kByte)
                                      : at::empty({0}, x.options().dtype(at::kByte));
  if (conv.empty()) return {y, winner};
  tree_forward(args, y.mutable_data_ptr(), flat(y).stride(1), static_cast<uint8_t*>(winner.mutable_data_ptr()),
               conv.pooled() ? flat(winner).stride(1) : 0, stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, winner};
}

std::tuple<Tensor, Tensor> logic_tree_conv(const Tensor& x, const Tensor& table,
                                           const std::optional<Tensor>& soft_table, const Tensor& leaves,
                                           at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                                           at::IntArrayRef pool) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_tree_conv(x, table, soft_table, leaves);
  return forward({x, table, soft_table, leaves, {kernel_size, stride, padding, pool}}, x);
}

std::tuple<Tensor, Tensor> learned_tree_conv(const Tensor& x, const Tensor& table,
                                             const std::optional<Tensor>& soft_table, const Tensor& leaves,
                                             const Tensor& candidates, at::IntArrayRef kernel_size,
                                             at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef pool) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::learned_tree_conv(x, table, soft_table, leaves, candidates);
  return forward({x, table, soft_table, leaves, {kernel_size, stride, padding, pool}, candidates}, x);
}

// Gradients of x, of the table and of the candidates' shares.
std::tuple<Tensor, Tensor, Tensor> backward(const TreeConv& conv, const Tensor& grad, const Tensor& winner,
                                            const Tensor& x, bool need_grad_x) {
  const TreeArgs& args = conv.args;
  check_output(grad, args.out_height, args.out_width);
  TORCH_CHECK_VALUE(!conv.pooled() || winner.numel() == grad.numel(), "winner must be what the forward pass gave");
  const Tensor grad_x = need_grad_x ? new_image(x, args.batch, args.channels, args.height, args.width, conv.dtype)
                                    : at::empty({0}, x.options());
  if (conv.empty()) {
    if (need_grad_x) grad_x.zero_();
    return {grad_x, at::zeros(conv.table.sizes(), conv.table.options()), Tensor()};
  }
  const Tensor grad_table = at::empty(conv.table.sizes(), conv.table.options());
  const Tensor upper = feature_major(flat(grad.to(conv.dtype)));
  const Tensor won = conv.pooled() ? feature_major(flat(winner)) : winner;
  TreeGradientArgs to{};
  const bool learned = conv.candidates.numel() > 0, need_leaves = need_grad_x || learned;
  to.share = tree_share(args, need_leaves ? kLeafBytes : std::numeric_limits<int64_t>::max());
  const Tensor run_sums = at::empty({to.share.runs * grad_table.numel()}, grad_table.options());
  const int64_t leaf_rows = need_leaves ? out_rows(args) << args.depth : 0;
  const Tensor leaf_grads = at::empty({leaf_rows * to.share.samples}, grad_table.options());
  to.slopes = conv.slopes.const_data_ptr();
  to.grad = upper.const_data_ptr();
  to.grad_pitch = upper.stride(1);
  to.winner = conv.pooled() ? static_cast<const uint8_t*>(won.const_data_ptr()) : nullptr;
  to.winner_pitch = conv.pooled() ? won.stride(1) : 0;
  to.grad_table = grad_table.mutable_data_ptr();
  to.run_sums = run_sums.mutable_data_ptr();
  if (need_leaves) to.leaf_grads = leaf_grads.mutable_data_ptr();
  const DeviceTreeUses uses = !need_grad_x ? DeviceTreeUses{}
                              : learned    ? sorted_uses(conv.leaves, args.channels)
                                           : *conv.uses;
  if (need_grad_x) {
    to.grad_x = grad_x.mutable_data_ptr();
    to.grad_x_pitch = flat(grad_x).stride(1);
    to.uses = uses.data();
    to.uses_begin = uses.begin.const_data_ptr<int32_t>();
  }
  Tensor shares, choice_sums;
  if (learned) {
    const int64_t count = conv.candidates.size(2), padded = (count + 3) / 4 * 4;
    shares = at::empty({args.trees, conv.leaves.size(2), padded}, grad_table.options());
    choice_sums = at::empty({to.share.runs * shares.numel()}, grad_table.options());
    to.choices = {conv.candidates.const_data_ptr<int32_t>(),
                  count,
                  {conv.kernel[0], conv.kernel[1]},
                  shares.mutable_data_ptr(),
                  choice_sums.mutable_data_ptr()};
    shares = shares.narrow(2, 0, count);
  }
  tree_backward(args, to, stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_table, shares};
}

std::tuple<Tensor, Tensor> logic_tree_conv_backward(const Tensor& grad, const Tensor& winner, const Tensor& x,
                                                    const Tensor& table, const std::optional<Tensor>& soft_table,
                                                    const Tensor& leaves, at::IntArrayRef kernel_size,
                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                    at::IntArrayRef pool, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_tree_conv_backward(grad, winner, x, table, soft_table, leaves);
  const TreeConv conv(x, table, soft_table, leaves, {kernel_size, stride, padding, pool});
  const auto [grad_x, grad_table, none] = backward(conv, grad, winner, x, need_grad_x);
  return {grad_x, grad_table.to(table.scalar_type())};
}

std::tuple<Tensor, Tensor, Tensor> learned_tree_conv_backward(const Tensor& grad, const Tensor& winner, const Tensor& x,
                                                              const Tensor& table,
                                                              const std::optional<Tensor>& soft_table,
                                                              const Tensor& leaves, const Tensor& candidates,
                                                              at::IntArrayRef kernel_size, at::IntArrayRef stride,
                                                              at::IntArrayRef padding, at::IntArrayRef pool,
                                                              bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::learned_tree_conv_backward(grad, winner, x, table, soft_table, leaves, candidates);
  const TreeConv conv(x, table, soft_table, leaves, {kernel_size, stride, padding, pool}, candidates);
  const auto [grad_x, grad_table, grad_shares] = backward(conv, grad, winner, x, need_grad_x);
  const at::ScalarType dtype = table.scalar_type();
  const Tensor shares =
      grad_shares.defined() ? grad_shares.to(dtype).contiguous() : at::zeros(candidates.sizes(), table.options());
  return {grad_x, grad_table.to(dtype), shares};
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("logic_tree_conv", &lgn::cuda::logic_tree_conv);
  m.impl("logic_tree_conv_backward", &lgn::cuda::logic_tree_conv_backward);
  m.impl("learned_tree_conv", &lgn::cuda::learned_tree_conv);
  m.impl("learned_tree_conv_backward", &lgn::cuda::learned_tree_conv_backward);
}
