// The sizes of a convolution as the ops of both forms of trees are given them: for the CPU and for CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace lgn {

// Height and width each.
struct ConvSizes {
  at::IntArrayRef kernel, stride, padding, pool;

  // Height and width after the convolution of an image of these and the pooling.
  std::array<int64_t, 2> output(int64_t height, int64_t width) const {
    TORCH_CHECK(kernel.size() == 2 && stride.size() == 2 && padding.size() == 2 && pool.size() == 2 &&
                    std::min(stride[0], stride[1]) > 0 && std::min(pool[0], pool[1]) > 0,
                "kernel_size, stride, padding and pool must be two numbers each");
    const auto along = [&](size_t i, int64_t n) {
      return ((n + 2 * padding[i] - kernel[i]) / stride[i] + 1) / pool[i];
    };
    const std::array<int64_t, 2> out{along(0, height), along(1, width)};
    TORCH_CHECK(out[0] > 0 && out[1] > 0, "the kernel does not fit into the padded image");
    return out;
  }
};

}  // namespace lgn
