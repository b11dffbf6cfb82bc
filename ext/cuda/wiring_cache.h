// What is made of the wirings that a process has seen, in device memory.
//
// It is made once, on the host: that waits for the device, every later call does not. A wiring is known by its memory
// and by its version counter, which every change in place counts up. Only of another version it is looked at, which
// waits too, and what differs is made anew; what was made before is freed unless a CUDA graph was captured with it.
// Functions throw if an index is out of range, or if a CUDA graph is being captured and the wiring
// was not seen before. Index tensors are int32, contiguous, on one GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "dense.h"
#include "tree.h"

namespace lgn::cuda {

struct DeviceWalk {
  at::Tensor visits, merge_inputs, merge_begin;
  int64_t count, merges, slots;
  const Visit* data() const { return static_cast<const Visit*>(visits.const_data_ptr()); }
};
std::shared_ptr<const DeviceWalk> cached_walk(const at::Tensor& a, const at::Tensor& b, int64_t inputs);

// Throws if one of the candidates [gates, 2, count] is outside the inputs.
void check_candidates(const at::Tensor& candidates, int64_t inputs);

struct DeviceLutUses {
  at::Tensor uses, begin;
};
// Of indices [inputs, gates] of lookup tables.
std::shared_ptr<const DeviceLutUses> cached_lut_uses(const at::Tensor& indices, int64_t features);

struct DeviceTreeUses {
  at::Tensor uses, begin;
  const TreeUse* data() const { return static_cast<const TreeUse*>(uses.const_data_ptr()); }
};
// Throws if one of the candidates of leaves is no place of a receptive field.
void check_places(const at::Tensor& candidates, int64_t channels, int64_t lines, int64_t columns);
// Of leaves [3, trees, n] on a receptive field of channels, lines and columns.
std::shared_ptr<const DeviceTreeUses> cached_tree_uses(const at::Tensor& leaves, int64_t channels, int64_t lines,
                                                       int64_t columns);

}  // namespace lgn::cuda
