// What both forms of the tree convolution share: its checked sizes and candidates, images as rows, memory of a task,
// sums of slabs.
#pragma once

#include <ATen/ops/empty.h>

#include "tensors.h"
#include "tree_sizes.h"

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
inline TreeShape tree_shape(at::IntArrayRef image, const Tensor& leaves, const ConvSizes& sizes) {
  const auto& [kernel, stride, padding, pool] = sizes;
  const auto [out_height, out_width] = sizes.output(image, leaves.size(1));
  const TreeShape shape{
      image[0],  image[1],  image[2],   leaves.size(1), leaves.size(2), out_height, out_width,
      stride[0], stride[1], padding[0], padding[1],     pool[0],        pool[1],    leaves.const_data_ptr<int32_t>(),
      0,         nullptr};
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

// Places of the receptive field, [trees, leaves, count], as [3][trees][leaves · count].
inline Tensor places_of(const Tensor& candidates, int64_t channels, at::IntArrayRef kernel) {
  const int64_t count = candidates.numel(), places = channels * kernel[0] * kernel[1];
  const auto lines = static_cast<int32_t>(kernel[0]), columns = static_cast<int32_t>(kernel[1]);
  Tensor out = at::empty({3, count}, candidates.options());
  const int32_t* from = candidates.const_data_ptr<int32_t>();
  TORCH_CHECK_INDEX(count == 0 || kernels().choice.largest(from, count) < places, "candidates must be places 0 … ",
                    places - 1, " of a receptive field of ", channels, " channels and ", lines, "x", columns);
  int32_t* to = out.mutable_data_ptr<int32_t>();
  parallel_for(count, 16 * kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int32_t line = from[k] / columns;
      to[k] = line / lines;
      to[count + k] = line % lines;
      to[2 * count + k] = from[k] % columns;
    }
  });
  return out;
}

// Puts candidates of leaves, [trees, leaves, count] places of the receptive field, into a shape; what is given back
// must stay.
inline Tensor read_candidates(const Tensor& candidates_in, at::IntArrayRef kernel, TreeShape& shape) {
  const Tensor candidates = candidates_in.contiguous();
  TORCH_CHECK_VALUE(candidates.size(2) > 0, "there are no candidates");
  Tensor places = places_of(candidates, shape.channels, kernel);
  shape.candidates = candidates.size(2);
  shape.candidate = places.const_data_ptr<int32_t>();
  return places;
}

// In the order of the slabs, whatever the number of threads.
template <typename Sum>
void add_slabs(const void* slabs, int64_t count, const Tensor& to) {
  const int64_t numel = to.numel();
  const Sum* from = static_cast<const Sum*>(slabs);
  Sum* sum = to.mutable_data_ptr<Sum>();
  for (int64_t slab = 0; slab < count; slab++) {
    for (int64_t k = 0; k < numel; k++) sum[k] += from[slab * numel + k];
  }
}

}  // namespace lgn
