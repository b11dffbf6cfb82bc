// Straight-through convolution with trees on packed samples (lgn_lightning/ops/bit_tree.py).
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <tuple>

#include "bits_tensors.h"
#include "tree_tensors.h"

namespace lgn {
namespace {

// Words [rows, C, H, W] as [rows, features].
Tensor flat_words(const Tensor& words) {
  return words.reshape({words.size(0), words.size(1) * words.size(2) * words.size(3)});
}

Tensor round_to_bits(const Tensor& x) {
  arguments::round_to_bits(x);
  const int64_t rows = x.size(1) * x.size(2) * x.size(3);
  return pack(x.reshape({x.size(0), rows})).view({(x.size(0) + 63) / 64, x.size(1), x.size(2), x.size(3)});
}

// The checked arguments that both passes have, in the forms that kernels take. A batch is whole words here.
struct BitTreeConv {
  Tensor x, gates, leaves;
  TreeShape shape;

  BitTreeConv(const Tensor& words, const Tensor& gates_in, const Tensor& leaves_in, const ConvSizes& sizes)
      : gates(gates_in.contiguous()), leaves(leaves_in.contiguous()) {
    check_tree_gates(gates, leaves);
    x = whole_rows(flat_words(words), 64 * words.size(0));
    shape = tree_shape(words.sizes().slice(1), leaves, sizes);
  }

  int64_t words() const { return x.size(0); }
};

std::tuple<Tensor, Tensor> bit_tree_conv(const Tensor& words, const Tensor& gates, const Tensor& leaves,
                                         at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                                         at::IntArrayRef pool) {
  arguments::bit_tree_conv(words, gates, leaves);
  const BitTreeConv conv(words, gates, leaves, {kernel_size, stride, padding, pool});
  const TreeShape& shape = conv.shape;
  const int64_t digits = shape.winner_digits();
  Tensor y = new_words(64 * conv.words(), shape.out_rows());
  Tensor winner = new_words(64 * conv.words(), digits * shape.out_rows());
  if (conv.words() > 0) {
    const BitTreeForward call{shape,
                              bytes_of(conv.x),
                              pitch_of(conv.x),
                              conv.gates.const_data_ptr<uint8_t>(),
                              static_cast<uint8_t*>(y.mutable_data_ptr()),
                              static_cast<uint8_t*>(winner.mutable_data_ptr()),
                              pitch_of(y)};
    parallel_for(shape.trees, std::max<int64_t>(1, tree_grain(shape)), [&](int64_t begin, int64_t end) {
      const Scratch scratch(kernels().bit_tree.scratch_bytes(shape));
      kernels().bit_tree.forward(call, begin, end, scratch.data());
    });
  }
  return {y.view({conv.words(), shape.trees, shape.out_height, shape.out_width}),
          winner.view({conv.words(), digits, shape.trees, shape.out_height, shape.out_width})};
}

// The gradients of x, of the table and, with candidates, of their shares.
std::tuple<Tensor, Tensor, Tensor> backward(const BitTreeConv& conv, const Tensor& grad, const Tensor& winner_in,
                                            const Tensor& soft_table, bool need_grad_x) {
  const TreeShape& shape = conv.shape;
  const int64_t batch = grad.size(0);
  check_output(grad, shape.out_height, shape.out_width);
  check_rows(winner_in, batch);
  TORCH_CHECK_VALUE(winner_in.size(1) == shape.winner_digits(), "winner must be what the forward pass gave");
  const Tensor slopes = soft_table.contiguous();
  Tensor grad_table = new_rows(shape.gates(), 4, at::kFloat);
  Tensor grad_x = need_grad_x ? new_image(batch, shape.channels, shape.height, shape.width, at::kFloat)
                              : at::empty({0}, at::device(at::kCPU).dtype(at::kFloat));
  Tensor grad_shares = at::zeros({shape.trees, shape.leaves, shape.candidates}, soft_table.options());
  if (batch == 0 || shape.trees == 0) {
    grad_table.zero_();
    grad_x.zero_();
    return {grad_x, grad_table, grad_shares};
  }
  const Tensor winner =
      whole_rows(winner_in.reshape({conv.words(), shape.winner_digits() * shape.out_rows()}), 64 * conv.words());
  const Rows upper = feature_major(flat(grad.to(at::kFloat))), to = need_grad_x ? rows_of(flat(grad_x)) : Rows{};
  const BitTreeBackward call{shape,
                             bytes_of(conv.x),
                             pitch_of(conv.x),
                             conv.gates.const_data_ptr<uint8_t>(),
                             bytes_of(winner),
                             pitch_of(winner),
                             upper.data,
                             upper.pitch,
                             slopes.const_data_ptr<float>()};
  const Tiling tiling(batch, sizeof(float), kTreeLines);
  const int64_t sums_of_slab = shape.gates() * 4, shares_of_slab = shape.trees * shape.choices();
  const Scratch sums(tiling.slabs * sums_of_slab * static_cast<int64_t>(sizeof(float)));
  const Scratch shares(tiling.slabs * shares_of_slab * static_cast<int64_t>(sizeof(float)));
  parallel_for(tiling.slabs, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(kernels().bit_tree.scratch_bytes(shape));
    for (int64_t slab = begin; slab < end; slab++) {
      float* own = static_cast<float*>(sums.data()) + slab * sums_of_slab;
      float* own_shares = static_cast<float*>(shares.data()) + slab * shares_of_slab;
      std::memset(own, 0, static_cast<size_t>(sums_of_slab) * sizeof(float));
      std::memset(own_shares, 0, static_cast<size_t>(shares_of_slab) * sizeof(float));
      const int64_t first = tiling.slab_begin[static_cast<size_t>(slab)];
      const int64_t last = tiling.slab_begin[static_cast<size_t>(slab) + 1];
      for (int64_t t = first; t < last; t++) {
        const Tile& tile = tiling.tiles[static_cast<size_t>(t)];
        char* rows = need_grad_x ? to.data + tile.offset : nullptr;
        for (int64_t r = 0; need_grad_x && r < shape.in_rows(); r++) {
          std::memset(rows + r * to.pitch, 0, static_cast<size_t>(tile.lines * kLineBytes));
        }
        kernels().bit_tree.backward(call, tile, 0, shape.trees, rows, to.pitch, own, own_shares, scratch.data());
      }
    }
  });
  kernels().f32.table_gradient(sums.data(), tiling.slabs, shape.gates(), 0, shape.gates(),
                               grad_table.mutable_data_ptr());
  add_slabs<float>(shares.data(), tiling.slabs, grad_shares);
  return {grad_x, grad_table, grad_shares};
}

std::tuple<Tensor, Tensor> bit_tree_conv_backward(const Tensor& grad, const Tensor& winner, const Tensor& words,
                                                  const Tensor& gates, const Tensor& soft_table, const Tensor& leaves,
                                                  at::IntArrayRef kernel_size, at::IntArrayRef stride,
                                                  at::IntArrayRef padding, at::IntArrayRef pool, bool need_grad_x) {
  arguments::bit_tree_conv_backward(grad, winner, words, gates, soft_table, leaves);
  const BitTreeConv conv(words, gates, leaves, {kernel_size, stride, padding, pool});
  auto [grad_x, grad_table, none] = backward(conv, grad, winner, soft_table, need_grad_x);
  return {grad_x, grad_table};
}

std::tuple<Tensor, Tensor, Tensor> learned_bit_tree_conv_backward(const Tensor& grad, const Tensor& winner,
                                                                  const Tensor& words, const Tensor& gates,
                                                                  const Tensor& soft_table, const Tensor& leaves,
                                                                  const Tensor& candidates, at::IntArrayRef kernel_size,
                                                                  at::IntArrayRef stride, at::IntArrayRef padding,
                                                                  at::IntArrayRef pool, bool need_grad_x) {
  arguments::learned_bit_tree_conv_backward(grad, winner, words, gates, soft_table, leaves, candidates);
  BitTreeConv conv(words, gates, leaves, {kernel_size, stride, padding, pool});
  const Tensor places = read_candidates(candidates, kernel_size, conv.shape);
  return backward(conv, grad, winner, soft_table, need_grad_x);
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("round_to_bits", &lgn::round_to_bits);
  m.impl("bit_tree_conv", &lgn::bit_tree_conv);
  m.impl("bit_tree_conv_backward", &lgn::bit_tree_conv_backward);
  m.impl("learned_bit_tree_conv_backward", &lgn::learned_bit_tree_conv_backward);
}
