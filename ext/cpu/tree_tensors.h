// What both forms of the tree convolution share: its checked sizes, images as rows, memory of a task.
#pragma once

#include "tensors.h"

namespace lgn {

// Gates at places of an image that are worth a thread's start.
constexpr int64_t kTreeGrain = 1 << 14;

inline Tensor new_image(int64_t batch, int64_t channels, int64_t height, int64_t width, at::ScalarType dtype) {
  return new_feature_major(batch, channels * height * width, dtype).view({batch, channels, height, width});
}

// [batch, channels, height, width] as [batch, rows]; copies only if the image is not a matrix in memory.
inline Tensor flat(const Tensor& image) {
  return image.reshape({image.size(0), image.numel() / std::max<int64_t>(image.size(0), 1)});
}

// Memory of the kernels for one task.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : data_(pool_get(bytes)) {}
  ~Scratch() { pool_put(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
};

// The sizes of a convolution of images of `image`, [C, H, W]; `leaves` must stay.
inline TreeShape tree_shape(at::IntArrayRef image, const Tensor& leaves, at::IntArrayRef kernel, at::IntArrayRef stride,
                            at::IntArrayRef padding, at::IntArrayRef pool) {
  TORCH_CHECK(leaves.dim() == 3 && leaves.size(0) == 3 && leaves.size(2) >= 2, "leaves must be [3, O, 2^depth]");
  TORCH_CHECK(kernel.size() == 2 && stride.size() == 2 && padding.size() == 2 && pool.size() == 2 &&
                  std::min(stride[0], stride[1]) > 0 && std::min(pool[0], pool[1]) > 0,
              "kernel_size, stride, padding and pool must be two numbers each");
  TreeShape shape{
      image[0],  image[1],  image[2],   leaves.size(1), leaves.size(2), 0,       0,
      stride[0], stride[1], padding[0], padding[1],     pool[0],        pool[1], leaves.const_data_ptr<int32_t>(),
      0,         nullptr};
  shape.out_height = ((shape.height + 2 * padding[0] - kernel[0]) / stride[0] + 1) / pool[0];
  shape.out_width = ((shape.width + 2 * padding[1] - kernel[1]) / stride[1] + 1) / pool[1];
  TORCH_CHECK(shape.out_height > 0 && shape.out_width > 0, "the kernel does not fit into the padded image");
  const int64_t limits[3] = {shape.channels, kernel[0], kernel[1]};
  for (int64_t part = 0; part < 3; part++) {
    const int32_t* leaf = shape.leaf + part * shape.trees * shape.leaves;
    int32_t low = 0, high = 0;
    for (int64_t l = 0; l < shape.trees * shape.leaves; l++) {
      low = std::min(low, leaf[l]);
      high = std::max(high, leaf[l]);
    }
    TORCH_CHECK_INDEX(low >= 0 && high < limits[part], "leaves[", part, "] has values from ", low, " to ", high,
                      ", but must be in 0 … ", limits[part] - 1);
  }
  return shape;
}

// Trees that one thread takes at a time.
inline int64_t tree_grain(const TreeShape& shape) {
  return std::max<int64_t>(1, kTreeGrain / (shape.out_height * shape.out_width * shape.pool() * (shape.leaves - 1)));
}

}  // namespace lgn
