// The sizes of a convolution as the ops of both forms of trees are given them: for the CPU and for CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

namespace lgn {

// Height and width each.
struct ConvSizes {
  at::IntArrayRef kernel, stride, padding, pool;

  // Height and width after the convolution of an image [C, H, W] with so many trees and the pooling.
  std::array<int64_t, 2> output(at::IntArrayRef image, int64_t trees) const {
    const auto within = [](at::IntArrayRef sizes, int64_t least, int64_t most) {
      return sizes.size() == 2 && std::min(sizes[0], sizes[1]) >= least && std::max(sizes[0], sizes[1]) <= most;
    };
    TORCH_CHECK_VALUE(
        within(kernel, 1, kMax) && within(stride, 1, kMax) && within(pool, 1, kMaxPlaces) && within(padding, 0, kMax),
        "kernel_size, stride and pool must be two numbers each from 1, padding from 0");
    TORCH_CHECK_VALUE(pool[0] * pool[1] <= kMaxPlaces, "a pooling of ", pool[0], "x", pool[1],
                      " has more places than the ", kMaxPlaces, " that winners in a byte can name");
    const int64_t padded[2] = {image[1] + 2 * padding[0], image[2] + 2 * padding[1]};
    TORCH_CHECK_VALUE(kernel[0] <= padded[0] && kernel[1] <= padded[1], "a kernel of ", kernel[0], "x", kernel[1],
                      " does not fit into ", padded[0], "x", padded[1], ", the image with its padding");
    const std::array<int64_t, 2> places{(padded[0] - kernel[0]) / stride[0] + 1,
                                        (padded[1] - kernel[1]) / stride[1] + 1};
    const std::array<int64_t, 2> out{places[0] / pool[0], places[1] / pool[1]};
    TORCH_CHECK_VALUE(out[0] > 0 && out[1] > 0, "a pooling of ", pool[0], "x", pool[1], " does not fit into the ",
                      places[0], "x", places[1], " outputs of the convolution");
    // As floats, whose product cannot pass what they hold.
    const double channels = static_cast<double>(std::max(image[0], trees));
    const double largest = std::max(static_cast<double>(padded[0]) * static_cast<double>(padded[1]),
                                    static_cast<double>(places[0]) * static_cast<double>(places[1]));
    TORCH_CHECK_VALUE(channels * largest < kMax, "an image of ", image, " with its padding and ", trees,
                      " trees pass what 32-bit indices hold");
    return out;
  }

 private:
  static constexpr int64_t kMax = std::numeric_limits<int32_t>::max() / 4, kMaxPlaces = 256;
};

}  // namespace lgn
