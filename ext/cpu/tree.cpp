// The convolution with trees of gates (lgn_lightning/ops/tree.py): checks, memory formats, tiles and threads.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <tuple>

#include "tree_tensors.h"

namespace lgn {
namespace {

// The checked arguments that both passes have, in the forms that kernels take.
struct TreeConv {
  Tensor table, slopes, leaves;
  at::ScalarType dtype;
  const LayerKernels& kernels;
  TreeShape shape;
  int64_t batch;
  Tiling tiling;

  TreeConv(const Tensor& x_in, const Tensor& table_in, const std::optional<Tensor>& slopes_in, const Tensor& leaves_in,
           const ConvSizes& sizes)
      : table(table_in.to(sum_dtype(x_in.scalar_type())).contiguous()),
        slopes(slopes_in ? slopes_in->to(table.scalar_type()).contiguous() : table),
        leaves(leaves_in.contiguous()),
        dtype(native_dtype(x_in.scalar_type())),
        kernels(layer_kernels_of(dtype)),
        batch(x_in.size(0)),
        tiling(batch, kernels.element_bytes, kTreeLines) {
    check_tree_gates(table, leaves);
    shape = tree_shape(x_in.sizes().slice(1), leaves, sizes);
  }

  bool pooled() const { return shape.pool() > 1; }
  bool empty() const { return batch == 0 || shape.trees == 0; }
};

std::tuple<Tensor, Tensor> logic_tree_conv(const Tensor& x_in, const Tensor& table,
                                           const std::optional<Tensor>& soft_table, const Tensor& leaves,
                                           at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                                           at::IntArrayRef pool) {
  arguments::logic_tree_conv(x_in, table, soft_table, leaves);
  const TreeConv conv(x_in, table, soft_table, leaves, {kernel_size, stride, padding, pool});
  const TreeShape& shape = conv.shape;
  Tensor y = new_image(conv.batch, shape.trees, shape.out_height, shape.out_width, conv.dtype);
  Tensor winner = conv.pooled() ? new_image(conv.batch, shape.trees, shape.out_height, shape.out_width, at::kByte)
                                : at::empty({0}, at::device(at::kCPU).dtype(at::kByte));
  if (!conv.empty()) {
    const Rows x = feature_major(flat(x_in.to(conv.dtype))), to = rows_of(flat(y));
    const Rows won = conv.pooled() ? rows_of(flat(winner)) : Rows{};
    const TreeForward call{
        shape,    x.data, x.pitch, conv.table.const_data_ptr(), to.data, to.pitch, reinterpret_cast<uint8_t*>(won.data),
        won.pitch};
    const int64_t tiles = static_cast<int64_t>(conv.tiling.tiles.size());
    parallel_for(tiles * shape.trees, tree_grain(shape), [&](int64_t begin, int64_t end) {
      const Scratch scratch(conv.kernels.tree.scratch_bytes(shape));
      while (begin < end) {
        const int64_t tile = begin / shape.trees, from = begin % shape.trees;
        const int64_t last = std::min(shape.trees, from + (end - begin));
        conv.kernels.tree.forward(call, conv.tiling.tiles[static_cast<size_t>(tile)], from, last, scratch.data());
        begin += last - from;
      }
    });
  }
  return {y.to(x_in.scalar_type()), winner};
}

// The gradients of one tile's activations, and of its slab's table and shares, `sums` and `shares`.
void backward_tile(const TreeConv& conv, const TreeBackward& call, const Tile& tile, const Rows* grad_x, void* sums,
                   void* shares, void* scratch) {
  const TreeShape& shape = conv.shape;
  const LayerKernels& k = conv.kernels;
  if (grad_x == nullptr) return k.tree.backward(call, tile, 0, shape.trees, nullptr, 0, sums, shares, scratch);
  if (k.element_bytes == k.sum_bytes) {
    char* rows = grad_x->data + tile.offset;
    for (int64_t r = 0; r < shape.in_rows(); r++) {
      std::memset(rows + r * grad_x->pitch, 0, static_cast<size_t>(tile.lines * kLineBytes));
    }
    return k.tree.backward(call, tile, 0, shape.trees, rows, grad_x->pitch, sums, shares, scratch);
  }
  // Many gradients are added to one row, so they are rounded to storage once, at the end.
  const int64_t pitch = kTreeLines * kLineBytes * k.sum_bytes / k.element_bytes;
  const Scratch wide(shape.in_rows() * pitch);
  std::memset(wide.data(), 0, static_cast<size_t>(shape.in_rows() * pitch));
  char* rows = static_cast<char*>(wide.data());
  k.tree.backward(call, tile, 0, shape.trees, rows, pitch, sums, shares, scratch);
  k.pack_rows(rows, pitch, shape.in_rows(), grad_x->data, grad_x->pitch, tile);
}

// The gradients of x, of the table and, with candidates, of their shares.
std::tuple<Tensor, Tensor, Tensor> backward(const TreeConv& conv, const Tensor& grad, const Tensor& winner,
                                            const Tensor& x_in, bool need_grad_x) {
  const TreeShape& shape = conv.shape;
  check_output(grad, shape.out_height, shape.out_width);
  TORCH_CHECK_VALUE(!conv.pooled() || winner.numel() == grad.numel(), "winner must be what the forward pass gave");
  Tensor grad_table = new_rows(shape.gates(), 4, conv.table.scalar_type());
  Tensor grad_x = need_grad_x ? new_image(conv.batch, shape.channels, shape.height, shape.width, conv.dtype)
                              : at::empty({0}, at::device(at::kCPU).dtype(conv.dtype));
  Tensor grad_shares = at::zeros({shape.trees, shape.leaves, shape.candidates}, conv.table.options());
  if (conv.empty()) {
    grad_table.zero_();
    grad_x.zero_();
  } else {
    const Rows x = feature_major(flat(x_in.to(conv.dtype))), upper = feature_major(flat(grad.to(conv.dtype)));
    const Rows won = conv.pooled() ? feature_major(flat(winner)) : Rows{},
               to = need_grad_x ? rows_of(flat(grad_x)) : Rows{};
    const TreeBackward call{shape,
                            x.data,
                            x.pitch,
                            upper.data,
                            upper.pitch,
                            reinterpret_cast<const uint8_t*>(won.data),
                            won.pitch,
                            conv.table.const_data_ptr(),
                            conv.slopes.const_data_ptr()};
    const Tiling& tiling = conv.tiling;
    const int64_t slab_bytes = shape.gates() * 4 * conv.kernels.sum_bytes;
    const int64_t share_bytes = shape.trees * shape.choices() * conv.kernels.sum_bytes;
    const Scratch sums(tiling.slabs * slab_bytes), shares(tiling.slabs * share_bytes);
    parallel_for(tiling.slabs, 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(conv.kernels.tree.scratch_bytes(shape));
      for (int64_t slab = begin; slab < end; slab++) {
        char* own = static_cast<char*>(sums.data()) + slab * slab_bytes;
        char* own_shares = static_cast<char*>(shares.data()) + slab * share_bytes;
        std::memset(own, 0, static_cast<size_t>(slab_bytes));
        std::memset(own_shares, 0, static_cast<size_t>(share_bytes));
        const int64_t first = tiling.slab_begin[static_cast<size_t>(slab)];
        const int64_t last = tiling.slab_begin[static_cast<size_t>(slab) + 1];
        for (int64_t t = first; t < last; t++) {
          backward_tile(conv, call, tiling.tiles[static_cast<size_t>(t)], need_grad_x ? &to : nullptr, own, own_shares,
                        scratch.data());
        }
      }
    });
    conv.kernels.table_gradient(sums.data(), tiling.slabs, shape.gates(), 0, shape.gates(),
                                grad_table.mutable_data_ptr());
    if (conv.dtype == at::kDouble) {
      add_slabs<double>(shares.data(), tiling.slabs, grad_shares);
    } else {
      add_slabs<float>(shares.data(), tiling.slabs, grad_shares);
    }
  }
  return {grad_x.to(x_in.scalar_type()), grad_table, grad_shares};
}

std::tuple<Tensor, Tensor> logic_tree_conv_backward(const Tensor& grad, const Tensor& winner, const Tensor& x,
                                                    const Tensor& table, const std::optional<Tensor>& soft_table,
                                                    const Tensor& leaves, at::IntArrayRef kernel_size,
                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                    at::IntArrayRef pool, bool need_grad_x) {
  arguments::logic_tree_conv_backward(grad, winner, x, table, soft_table, leaves);
  const TreeConv conv(x, table, soft_table, leaves, {kernel_size, stride, padding, pool});
  auto [grad_x, grad_table, none] = backward(conv, grad, winner, x, need_grad_x);
  return {grad_x, grad_table.to(table.scalar_type())};
}

std::tuple<Tensor, Tensor, Tensor> learned_tree_conv_backward(const Tensor& grad, const Tensor& winner, const Tensor& x,
                                                              const Tensor& table,
                                                              const std::optional<Tensor>& soft_table,
                                                              const Tensor& leaves, const Tensor& candidates,
                                                              at::IntArrayRef kernel_size, at::IntArrayRef stride,
                                                              at::IntArrayRef padding, at::IntArrayRef pool,
                                                              bool need_grad_x) {
  arguments::learned_tree_conv_backward(grad, winner, x, table, soft_table, leaves, candidates);
  TreeConv conv(x, table, soft_table, leaves, {kernel_size, stride, padding, pool});
  const Tensor places = read_candidates(candidates, kernel_size, conv.shape);
  auto [grad_x, grad_table, grad_shares] = backward(conv, grad, winner, x, need_grad_x);
  return {grad_x, grad_table.to(table.scalar_type()), grad_shares};
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("logic_tree_conv", &lgn::logic_tree_conv);
  m.impl("logic_tree_conv_backward", &lgn::logic_tree_conv_backward);
  m.impl("learned_tree_conv_backward", &lgn::learned_tree_conv_backward);
}
