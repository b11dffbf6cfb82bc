#include "wiring_cache.h"

#include <ATen/ops/empty.h>
#include <c10/core/Storage.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <typeinfo>
#include <utility>
#include <vector>

#include "dense_plan.h"
#include "lut_plan.h"
#include "tree_plan.h"

namespace lgn::cuda {
namespace {

using at::Tensor;

// One index tensor as it was when something was made of it.
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
  bool same_memory(const Tensor& t) const { return data == t.const_data_ptr() && !expired(); }
  bool is(const Tensor& t) const { return same_memory(t) && version == version_of(t); }
};

struct Entry {
  const std::type_info* kind;  // of what was made
  c10::DeviceIndex device;
  std::vector<Seen> indices;
  std::vector<int64_t> sizes;
  std::vector<Tensor> host;  // the indices that it was made of
  std::shared_ptr<const void> made;
  bool captured = false;  // whether a CUDA graph may read it at any time

  // Whether it was made of these tensors: as they are, or as they were before they were written to.
  bool is(const std::type_info& other_kind, const std::vector<Tensor>& others, const std::vector<int64_t>& other_sizes,
          bool of_any_version = false) const {
    return *kind == other_kind && sizes == other_sizes &&
           std::equal(
               indices.begin(), indices.end(), others.begin(), others.end(),
               [&](const Seen& seen, const Tensor& t) { return of_any_version ? seen.same_memory(t) : seen.is(t); });
  }
  bool holds(const std::vector<Tensor>& others) const {
    return std::equal(host.begin(), host.end(), others.begin(), others.end(), [](const Tensor& a, const Tensor& b) {
      return a.nbytes() == b.nbytes() && std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
    });
  }
  bool expired() const {
    return std::any_of(indices.begin(), indices.end(), [](const Seen& seen) { return seen.expired(); });
  }
};

struct Cache {
  std::mutex mutex;
  std::list<Entry> entries;  // the most recently used first
};

Cache& cache() {
  static Cache* instance = new Cache;  // never destroyed: the CUDA driver may be gone by then
  return *instance;
}

bool capturing() { return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None; }

std::shared_ptr<const void> find(const std::type_info& kind, const std::vector<Tensor>& indices,
                                 const std::vector<int64_t>& sizes) {
  Cache& kept = cache();
  const std::lock_guard<std::mutex> guard(kept.mutex);
  for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
    if (entry->is(kind, indices, sizes)) {
      kept.entries.splice(kept.entries.begin(), kept.entries, entry);
      entry->captured = entry->captured || capturing();
      return entry->made;
    }
  }
  return nullptr;
}

// Of indices that were written to with what they held before, as DDP does with all buffers at every step.
std::shared_ptr<const void> find_unchanged(const std::type_info& kind, const std::vector<Tensor>& indices,
                                           const std::vector<int64_t>& sizes, const std::vector<Tensor>& host) {
  Cache& kept = cache();
  const std::lock_guard<std::mutex> guard(kept.mutex);
  for (Entry& entry : kept.entries) {
    if (entry.is(kind, indices, sizes, true) && entry.holds(host)) {
      entry.indices = {indices.begin(), indices.end()};
      return entry.made;
    }
  }
  return nullptr;
}

// What `make` makes of index tensors on the host, and `sizes` that it depends on, which tell apart what is made, too.
template <typename Make>
auto cached(const std::vector<Tensor>& indices, const std::vector<int64_t>& sizes, const Make& make) {
  using Made = std::invoke_result_t<Make, const std::vector<Tensor>&>;
  if (const auto known = find(typeid(Made), indices, sizes)) return std::static_pointer_cast<const Made>(known);
  TORCH_CHECK(!capturing(),
              "a CUDA graph is being captured, but the wiring of a logic layer is new to the kernels and has to be "
              "prepared, which a graph cannot hold; run the step once before the capture");
  std::vector<Tensor> host;
  for (const Tensor& t : indices) {
    host.push_back(t.to(t.options().device(at::kCPU), /*non_blocking=*/false, /*copy=*/true));
  }
  if (const auto known = find_unchanged(typeid(Made), indices, sizes, host)) {
    return std::static_pointer_cast<const Made>(known);
  }
  auto made = std::make_shared<const Made>(make(host));
  // From here on any stream may read it.
  c10::cuda::getCurrentCUDAStream(indices[0].get_device()).synchronize();

  Cache& kept = cache();
  std::list<Entry> dead;
  {
    const std::lock_guard<std::mutex> guard(kept.mutex);
    // What a captured graph may still read lives as long as the indices; else it ends when they are changed.
    for (auto entry = kept.entries.begin(); entry != kept.entries.end();) {
      const auto here = entry++;
      const bool replaced = !here->captured && here->is(typeid(Made), indices, sizes, true);
      if (here->expired() || replaced) dead.splice(dead.end(), kept.entries, here);
    }
    kept.entries.push_front(
        {&typeid(Made), indices[0].get_device(), {indices.begin(), indices.end()}, sizes, host, made});
  }
  for (const Entry& entry : dead) {  // kernels on other streams may not be done with it
    const c10::cuda::CUDAGuard guard(entry.device);
    c10::cuda::device_synchronize();
  }
  return made;
}

Tensor upload(const void* from, int64_t count, const Tensor& like) {
  const Tensor host = at::empty({count}, at::device(at::kCPU).dtype(at::kInt));
  if (count > 0) std::memcpy(host.mutable_data_ptr(), from, static_cast<size_t>(count) * sizeof(int32_t));
  return host.to(like.options());
}

}  // namespace

std::shared_ptr<const DeviceWalk> cached_walk(const Tensor& a, const Tensor& b, int64_t inputs) {
  return cached({a, b}, {a.numel(), inputs}, [&](const std::vector<Tensor>& host) {
    const int32_t *first = host[0].const_data_ptr<int32_t>(), *second = host[1].const_data_ptr<int32_t>();
    const Walk walk = make_walk(first, second, a.numel(), inputs);
    TORCH_CHECK_INDEX(walk.bad_gate < 0, "gate ", walk.bad_gate, " has inputs ", first[walk.bad_gate], " and ",
                      second[walk.bad_gate], ", but x has only ", inputs, " features; indices must be in 0 … ",
                      inputs - 1);
    const auto merges = static_cast<int64_t>(walk.merge_inputs.size());
    const auto count = static_cast<int64_t>(walk.visits.size());
    return DeviceWalk{upload(walk.visits.data(), count * 4, a),
                      upload(walk.merge_inputs.data(), merges, a),
                      upload(walk.merge_begin.data(), merges + 1, a),
                      count,
                      merges,
                      walk.merge_begin.back()};
  });
}

void check_candidates(const Tensor& candidates, int64_t inputs) {
  if (candidates.numel() == 0) return;
  cached({candidates}, {candidates.size(0), candidates.size(2), inputs}, [&](const std::vector<Tensor>& host) {
    const int32_t* c = host[0].const_data_ptr<int32_t>();
    for (int64_t k = 0; k < candidates.numel(); k++) {
      TORCH_CHECK_INDEX(c[k] >= 0 && c[k] < inputs, "input ", c[k], " is a candidate of gate ",
                        k / (2 * candidates.size(2)), ", but x has only ", inputs, " features");
    }
    return true;
  });
}

std::shared_ptr<const DeviceLutUses> cached_lut_uses(const Tensor& indices, int64_t features) {
  const int64_t gates = indices.size(1), count = indices.numel();
  return cached({indices}, {indices.size(0), gates, features}, [&](const std::vector<Tensor>& host) {
    const int32_t* index = host[0].const_data_ptr<int32_t>();
    const LutUses uses = make_lut_uses(index, count, features);
    TORCH_CHECK_INDEX(uses.bad_use < 0, "gate ", uses.bad_use % gates, " has input ", index[uses.bad_use],
                      ", but x has only ", features, " features; indices must be in 0 … ", features - 1);
    return DeviceLutUses{upload(uses.uses.data(), count, indices), upload(uses.begin.data(), features + 1, indices)};
  });
}

std::shared_ptr<const DeviceTreeUses> cached_tree_uses(const Tensor& leaves, int64_t channels, int64_t lines,
                                                       int64_t columns) {
  const int64_t trees = leaves.size(1), n = leaves.size(2);
  return cached({leaves}, {trees, n, channels, lines, columns}, [&](const std::vector<Tensor>& host) {
    const int32_t* leaf = host[0].const_data_ptr<int32_t>();
    const TreeUses uses = make_tree_uses(leaf, trees, n, static_cast<int32_t>(channels), static_cast<int32_t>(lines),
                                         static_cast<int32_t>(columns));
    const int64_t bad = uses.bad_leaf, count = trees * n;
    TORCH_CHECK_INDEX(bad < 0, "leaf ", bad % n, " of tree ", bad / n, " reads channel ", leaf[bad], ", row ",
                      leaf[count + bad], ", column ", leaf[2 * count + bad], ", but there are ", channels,
                      " channels and the kernel is ", lines, "x", columns);
    return DeviceTreeUses{upload(uses.uses.data(), count * 4, leaves), upload(uses.begin.data(), channels + 1, leaves)};
  });
}

void check_places(const Tensor& candidates, int64_t channels, int64_t lines, int64_t columns) {
  cached({candidates}, {candidates.numel(), candidates.size(2), channels, lines, columns},
         [&](const std::vector<Tensor>& host) {
           const int32_t* c = host[0].const_data_ptr<int32_t>();
           const int64_t places = channels * lines * columns;
           const bool inside = std::all_of(c, c + candidates.numel(), [&](int32_t p) { return p >= 0 && p < places; });
           TORCH_CHECK_INDEX(inside, "candidates must be places 0 … ", places - 1, " of a receptive field of ",
                             channels, " channels and ", lines, "x", columns);
           return inside;
         });
}

}  // namespace lgn::cuda
