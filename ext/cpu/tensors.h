// Tensors in the forms that the CPU kernels take: pooled memory, rows of whole lines, tiles, checked wirings.
//
// For the files of ops only: single headers of torch, which a compiler takes in a few seconds.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "arguments.h"
#include "dense_plan_cache.h"
#include "isa.h"
#include "kernels.h"
#include "parallel.h"
#include "pool.h"

namespace lgn {

using at::Tensor;

// Activations and gradients of this size are written past the caches: they would only push out what is read next.
constexpr int64_t kStreamForward = int64_t{12} << 20;
constexpr int64_t kStreamBackward = int64_t{2} << 20;

// Gates that one thread takes at a time where gates are independent of one another.
constexpr int64_t kGrain = 2048;

// The same of packed bits, where an item is `words` of 64 samples: a small part of the work on floats, and a range
// should take longer than threads take to meet.
inline int64_t word_grain(int64_t words) { return std::max<int64_t>(1, 8 * kGrain / std::max<int64_t>(words, 1)); }

inline int64_t padded_bytes(int64_t bytes) { return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes; }

inline void release(void* block) { pool_put(block); }

// A tensor in pooled memory whose storage covers whole rows, padding included.
inline Tensor pooled(at::IntArrayRef sizes, at::IntArrayRef strides, int64_t bytes, at::ScalarType dtype) {
  void* data = pool_get(bytes);
  c10::Storage storage(c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes),
                       c10::DataPtr(data, data, &release, at::kCPU), nullptr, false);
  Tensor made = at::detail::make_tensor<at::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                        c10::scalarTypeToTypeMeta(dtype));
  made.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return made;
}

inline Tensor new_feature_major(int64_t batch, int64_t features, at::ScalarType dtype) {
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype));
  const int64_t pitch = padded_bytes(std::max<int64_t>(batch, 1) * element);
  return pooled({batch, features}, {1, pitch / element}, pitch * features, dtype);
}

inline Tensor new_rows(int64_t rows, int64_t columns, at::ScalarType dtype) {
  const int64_t element = static_cast<int64_t>(c10::elementSize(dtype));
  return pooled({rows, columns}, {columns, 1}, rows * columns * element, dtype);
}

// The next grain of rows of candidates that is whole vectors of them, whatever their count: which rows share a vector,
// and so in which order a row is summed, does not depend on how many threads share the work.
inline int64_t whole_vectors(int64_t grain) { return (grain / 16 + 1) * 16; }

// Numbers of the candidates [n, 2, count] of a layer.
inline Tensor new_shares(const Tensor& candidates) {
  const int64_t count = candidates.size(2);
  return pooled(candidates.sizes(), {2 * count, count, 1}, candidates.numel() * static_cast<int64_t>(sizeof(float)),
                at::kFloat);
}

// Rows of whole, aligned lines; `owner` keeps a copy alive where one was needed.
struct Rows {
  Tensor owner;
  char* data;
  int64_t pitch;
};

inline bool has_whole_lines(const Tensor& x) {
  const int64_t element = static_cast<int64_t>(x.element_size());
  const int64_t pitch = x.stride(1) * element, needed = padded_bytes(x.size(0) * element);
  if ((x.size(0) != 1 && x.stride(0) != 1) || pitch % kLineBytes != 0 || pitch < needed) return false;
  if (reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kLineBytes != 0) return false;
  const int64_t end = x.storage_offset() * element + (x.size(1) - 1) * pitch + needed;
  return end <= static_cast<int64_t>(x.storage().nbytes());
}

inline Rows feature_major(const Tensor& x) {
  Tensor owner = x;
  if (x.numel() > 0 && !has_whole_lines(x)) {
    owner = new_feature_major(x.size(0), x.size(1), x.scalar_type());
    owner.copy_(x);
  }
  return {owner, static_cast<char*>(const_cast<void*>(owner.const_data_ptr())),
          owner.stride(1) * static_cast<int64_t>(owner.element_size())};
}

inline Rows rows_of(const Tensor& made) {
  return {made, static_cast<char*>(made.mutable_data_ptr()),
          made.stride(1) * static_cast<int64_t>(made.element_size())};
}

inline const LayerKernels& layer_kernels_of(at::ScalarType dtype) {
  if (dtype == at::kDouble) return kernels_f64();
  return dtype == at::kBFloat16 ? kernels().bf16 : kernels().f32;
}

// The dtype that there are kernels for; others (half) are computed in float.
inline at::ScalarType native_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble || dtype == at::kBFloat16 ? dtype : at::kFloat;
}
inline at::ScalarType sum_dtype(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

// The batch in tiles. Sums over the tiles of a wide batch go to a fixed number of slabs, so that, like the chunks of a
// plan, they do not depend on the number of threads.
struct Tiling {
  std::vector<Tile> tiles;
  std::vector<int64_t> slab_begin;  // tiles slab_begin[s] … slab_begin[s + 1] - 1 belong to slab s
  int64_t slabs;

  Tiling(int64_t batch, int64_t element, int tile_lines = kTileLines) {
    constexpr int64_t kMaxSlabs = 16;
    const int64_t lines = padded_bytes(batch * element) / kLineBytes, per_line = kLineBytes / element;
    for (int64_t line = 0; line < lines; line += tile_lines) {
      const int64_t count = std::min<int64_t>(tile_lines, lines - line);
      tiles.push_back(
          {line * kLineBytes, static_cast<int>(count), std::min(count * per_line, batch - line * per_line)});
    }
    const int64_t n = static_cast<int64_t>(tiles.size());
    slabs = std::min(n, kMaxSlabs);
    for (int64_t s = 0; s <= slabs; s++) slab_begin.push_back(slabs ? s * n / slabs : 0);
  }
};

inline void refuse_gate(int64_t bad, const Tensor& a, const Tensor& b, int64_t inputs) {
  TORCH_CHECK_INDEX(bad < 0, "gate ", bad, " has inputs ", a.const_data_ptr<int32_t>()[std::max<int64_t>(bad, 0)],
                    " and ", b.const_data_ptr<int32_t>()[std::max<int64_t>(bad, 0)], ", but x has only ", inputs,
                    " features; indices must be in 0 … ", inputs - 1);
}

inline void check_wires(const Tensor& a, const Tensor& b, int64_t inputs) {
  const auto fit = [&](const Tensor& wires) {
    return kernels().choice.largest(wires.const_data_ptr<int32_t>(), wires.numel()) < inputs;
  };
  if (fit(a) && fit(b)) return;
  refuse_gate(find_bad_gate(a.const_data_ptr<int32_t>(), b.const_data_ptr<int32_t>(), a.numel(), inputs), a, b, inputs);
}

inline std::shared_ptr<const Plan> plan_of(const Tensor& a, const Tensor& b, int64_t inputs) {
  const c10::weak_intrusive_ptr<c10::StorageImpl> storage(a.storage().getWeakStorageImpl());
  const auto plan = cached_plan(a.const_data_ptr<int32_t>(), b.const_data_ptr<int32_t>(), a.numel(), inputs,
                                [storage] { return !storage.expired(); });
  refuse_gate(plan->bad_gate, a, b, inputs);
  return plan;
}

// Of candidates [gates, 2, count], int32.
inline void check_candidates(const Tensor& candidates, int64_t inputs) {
  const int32_t* c = candidates.const_data_ptr<int32_t>();
  if (candidates.numel() == 0 || kernels().choice.largest(c, candidates.numel()) < inputs) return;
  for (int64_t k = 0; k < candidates.numel(); k++) {
    TORCH_CHECK_INDEX(c[k] >= 0 && c[k] < inputs, "input ", c[k], " is a candidate of gate ",
                      k / (2 * candidates.size(2)), ", but x has only ", inputs, " features");
  }
}

}  // namespace lgn
