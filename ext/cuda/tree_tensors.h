// What both forms of the tree convolution share: its checked sizes, images as rows.
#pragma once

#include <limits>

#include "../cpu/tree_sizes.h"
#include "tensors.h"
#include "tree.h"

namespace lgn::cuda {

// Memory for the gradients of leaves: a small share of a GPU's, and slices are large enough to fill it.
constexpr int64_t kLeafBytes = int64_t{1} << 30;

inline Tensor new_image(const Tensor& like, int64_t batch, int64_t channels, int64_t height, int64_t width,
                        at::ScalarType dtype) {
  return new_feature_major(batch, channels * height * width, dtype, like).view({batch, channels, height, width});
}

// [batch, channels, height, width] as [batch, rows]; copies only if the image is not a matrix in memory.
inline Tensor flat(const Tensor& image) {
  return image.reshape({image.size(0), image.size(1) * image.size(2) * image.size(3)});
}

// The sizes of a convolution of images, or of their words, `x`; `leaves` must stay.
inline TreeArgs tree_args(const Tensor& x, const Tensor& leaves, const ConvSizes& sizes) {
  TreeArgs args{};
  const auto& [kernel, stride, padding, pool] = sizes;
  const auto [out_height, out_width] = sizes.output(x.sizes().slice(1), leaves.size(1));
  const int64_t trees = leaves.size(1), n = leaves.size(2);
  while (int64_t{1} << args.depth < n) args.depth++;
  TORCH_CHECK(args.depth <= kMaxTreeDepth, "trees of ", n, " leaves are more than the ", 1 << kMaxTreeDepth,
              " of the CUDA kernels; pass implementation=\"python\" to the layer");
  for (size_t i = 0; i < 2; i++) {
    args.stride[i] = static_cast<int32_t>(stride[i]);
    args.padding[i] = static_cast<int32_t>(padding[i]);
    args.pool[i] = static_cast<int32_t>(pool[i]);
  }
  const int64_t rows = x.size(1) * (x.size(2) + 2 * padding[0]) * (x.size(3) + 2 * padding[1]);
  TORCH_CHECK(
      std::max({rows, trees * n, out_height * out_width * pool[0] * pool[1]}) < std::numeric_limits<int32_t>::max() / 4,
      "an image of ", x.size(1), "x", x.size(2), "x", x.size(3), " and ", trees,
      " trees pass what 32-bit indices hold");
  args.trees = static_cast<int32_t>(trees);
  args.channels = static_cast<int32_t>(x.size(1));
  args.height = static_cast<int32_t>(x.size(2));
  args.width = static_cast<int32_t>(x.size(3));
  args.out_height = static_cast<int32_t>(out_height);
  args.out_width = static_cast<int32_t>(out_width);
  args.leaves = leaves.const_data_ptr<int32_t>();
  return args;
}

inline int64_t out_rows(const TreeArgs& args) { return int64_t{args.trees} * args.out_height * args.out_width; }

}  // namespace lgn::cuda
