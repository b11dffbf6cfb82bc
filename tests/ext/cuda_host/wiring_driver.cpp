// The cache of wirings on tensors of the host, as ops of torch, for test_cuda_wiring_cache.py.
//
// What it takes of c10/cuda is stood in for here: the headers of that name beside this file include nothing.
#include <c10/core/Device.h>
#include <torch/library.h>

#include <cstdint>

namespace c10::cuda {
enum class CaptureStatus { None, Active };
static CaptureStatus status = CaptureStatus::None;
static int64_t waits = 0;

static CaptureStatus currentStreamCaptureStatusMayInitCtx() { return status; }
static void device_synchronize() { waits++; }
struct CUDAGuard {
  explicit CUDAGuard(DeviceIndex) {}
};
struct CUDAStream {
  void synchronize() { waits++; }
};
static CUDAStream getCurrentCUDAStream(DeviceIndex) { return {}; }
}  // namespace c10::cuda

#include "../../../ext/cuda/wiring_cache.cpp"

namespace {

using at::Tensor;

// The address of what belongs to a wiring, and its stops.
std::tuple<int64_t, Tensor> walk(const Tensor& a, const Tensor& b, int64_t inputs) {
  const auto made = lgn::cuda::cached_walk(a, b, inputs);
  return {reinterpret_cast<int64_t>(made.get()), made->visits.clone()};
}

}  // namespace

TORCH_LIBRARY(lgn_wiring, m) {
  m.def("walk", &walk);
  m.def("check_candidates", &lgn::cuda::check_candidates);
  m.def("kept() -> int", [] { return static_cast<int64_t>(lgn::cuda::cache().entries.size()); });
  m.def("waits() -> int", [] { return c10::cuda::waits; });
  m.def("capture(bool on) -> ()",
        [](bool on) { c10::cuda::status = on ? c10::cuda::CaptureStatus::Active : c10::cuda::CaptureStatus::None; });
}
