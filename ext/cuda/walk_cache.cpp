#include "walk_cache.h"

#include <ATen/ops/empty.h>
#include <c10/core/Storage.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <list>
#include <mutex>
#include <utility>

#include "plan.h"

namespace lgn::cuda {
namespace {

using at::Tensor;

// One index tensor as it was when its walk was made.
struct Seen {
  c10::weak_intrusive_ptr<c10::StorageImpl> storage;  // so that memory that was freed and reused is not taken for it
  const void* data;
  uint32_t version;

  explicit Seen(const Tensor& t)
      : storage(t.storage().getWeakStorageImpl()), data(t.const_data_ptr()), version(version_of(t)) {}
  static uint32_t version_of(const Tensor& t) {
    return t.is_inference() ? 0 : t.unsafeGetTensorImpl()->version_counter().current_version();
  }
  bool expired() const { return storage.expired(); }
  bool is(const Tensor& t) const { return data == t.const_data_ptr() && version == version_of(t) && !expired(); }
};

struct Entry {
  Seen a, b;
  int64_t gates, inputs;
  std::shared_ptr<const DeviceWalk> walk;
};

struct Cache {
  std::mutex mutex;
  std::list<Entry> entries;  // the most recently used first
};

Cache& cache() {
  static Cache* instance = new Cache;  // never destroyed: the CUDA driver may be gone by then
  return *instance;
}

std::shared_ptr<const DeviceWalk> find(const Tensor& a, const Tensor& b, int64_t inputs) {
  Cache& kept = cache();
  const std::lock_guard<std::mutex> guard(kept.mutex);
  for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
    if (entry->gates == a.numel() && entry->inputs == inputs && entry->a.is(a) && entry->b.is(b)) {
      kept.entries.splice(kept.entries.begin(), kept.entries, entry);
      return kept.entries.front().walk;
    }
  }
  return nullptr;
}

Tensor upload(const void* from, int64_t count, const Tensor& like) {
  const Tensor host = at::empty({count}, at::device(at::kCPU).dtype(at::kInt));
  if (count > 0) std::memcpy(host.mutable_data_ptr(), from, static_cast<size_t>(count) * sizeof(int32_t));
  return host.to(like.options());
}

}  // namespace

std::shared_ptr<const DeviceWalk> cached_walk(const Tensor& a, const Tensor& b, int64_t inputs) {
  if (auto known = find(a, b, inputs)) return known;
  TORCH_CHECK(c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None,
              "a CUDA graph is being captured, but the wiring of a logic layer is new to the kernels and has to be "
              "prepared, which a graph cannot hold; run the step once before the capture");
  const Tensor host_a = a.cpu(), host_b = b.cpu();
  const int32_t *first = host_a.const_data_ptr<int32_t>(), *second = host_b.const_data_ptr<int32_t>();
  const Walk walk = make_walk(first, second, a.numel(), inputs);
  TORCH_CHECK_INDEX(walk.bad_gate < 0, "gate ", walk.bad_gate, " has inputs ", first[walk.bad_gate], " and ",
                    second[walk.bad_gate], ", but x has only ", inputs, " features; indices must be in 0 … ",
                    inputs - 1);
  const auto merges = static_cast<int64_t>(walk.merge_inputs.size());
  const auto count = static_cast<int64_t>(walk.visits.size());
  auto made = std::make_shared<const DeviceWalk>(
      DeviceWalk{upload(walk.visits.data(), count * 4, a), upload(walk.merge_inputs.data(), merges, a),
                 upload(walk.merge_begin.data(), merges + 1, a), count, merges, walk.merge_begin.back()});
  // From here on any stream may read it.
  c10::cuda::getCurrentCUDAStream(a.get_device()).synchronize();

  Cache& kept = cache();
  std::list<Entry> dead;
  {
    const std::lock_guard<std::mutex> guard(kept.mutex);
    kept.entries.push_front({Seen(a), Seen(b), a.numel(), inputs, made});
    // A walk lives as long as its indices, also when they were changed: a captured graph may still read it.
    for (auto entry = kept.entries.begin(); entry != kept.entries.end();) {
      const auto here = entry++;
      if (here->a.expired() || here->b.expired()) dead.splice(dead.end(), kept.entries, here);
    }
  }
  if (!dead.empty()) c10::cuda::device_synchronize();  // kernels on other streams may not be done with them
  return made;
}

}  // namespace lgn::cuda
