// The walks of the layers that a process has seen, in device memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "kernels.h"

namespace lgn::cuda {

struct DeviceWalk {
  at::Tensor visits, merge_inputs, merge_begin;
  int64_t count, merges, slots;
  const Visit* data() const { return static_cast<const Visit*>(visits.const_data_ptr()); }
};

// The walk of a wiring (int32, contiguous, on one GPU), made once: that waits for the device, every later call does
// not. A wiring is known by its memory and by its version counter, which every change in place counts up, so that it is
// made anew after a load_state_dict and never compared. Throws if an index is outside the inputs, or if a CUDA graph is
// being captured and the wiring was not seen before.
std::shared_ptr<const DeviceWalk> cached_walk(const at::Tensor& a, const at::Tensor& b, int64_t inputs);

}  // namespace lgn::cuda
