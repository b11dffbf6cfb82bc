#include "pool.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

namespace lgn {
namespace {

constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kSmallStep = int64_t{1} << 12;

struct Block {
  void* data;
  int64_t bytes;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> cached;  // the longest unused first
  std::unordered_map<void*, int64_t> sizes;
  int64_t live_bytes = 0, cached_bytes = 0, peak_bytes = 0;
};

Pool& pool() {
  static Pool* instance = [] {
    // Never destroyed: tensors may outlive static objects. A forked child must not inherit a held lock.
    auto* made = new Pool;
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
    return made;
  }();
  return *instance;
}

}  // namespace

void* pool_get(int64_t bytes) {
  const int64_t step = bytes >= kHugePage ? kHugePage : kSmallStep;
  bytes = bytes <= 0 ? step : (bytes + step - 1) / step * step;
  Pool& p = pool();
  const std::lock_guard<std::mutex> guard(p.mutex);
  p.live_bytes += bytes;
  if (p.live_bytes > p.peak_bytes) p.peak_bytes = p.live_bytes;
  for (size_t k = p.cached.size(); k-- > 0;) {
    if (p.cached[k].bytes != bytes) continue;
    void* data = p.cached[k].data;
    p.cached.erase(p.cached.begin() + static_cast<std::ptrdiff_t>(k));
    p.cached_bytes -= bytes;
    p.sizes[data] = bytes;
    return data;
  }
  size_t evicted = 0;
  // A quarter more than the peak: blocks that are never in use together, such as a copy of the input and the gradients,
  // would else push each other out at every step.
  while (evicted < p.cached.size() && p.live_bytes + p.cached_bytes > p.peak_bytes + p.peak_bytes / 4) {
    p.cached_bytes -= p.cached[evicted].bytes;
    std::free(p.cached[evicted++].data);
  }
  p.cached.erase(p.cached.begin(), p.cached.begin() + static_cast<std::ptrdiff_t>(evicted));
  void* data = nullptr;
  if (posix_memalign(&data, static_cast<size_t>(step), static_cast<size_t>(bytes)) != 0) {
    p.live_bytes -= bytes;
    throw std::bad_alloc();
  }
#if defined(MADV_HUGEPAGE)
  if (bytes >= kHugePage) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  p.sizes[data] = bytes;
  return data;
}

void pool_put(void* block) {
  Pool& p = pool();
  const std::lock_guard<std::mutex> guard(p.mutex);
  const auto found = p.sizes.find(block);
  if (found == p.sizes.end()) return;
  const int64_t bytes = found->second;
  p.sizes.erase(found);
  p.live_bytes -= bytes;
  p.cached_bytes += bytes;
  p.cached.push_back({block, bytes});
}

PoolUse pool_use() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> guard(p.mutex);
  return {p.live_bytes, p.cached_bytes, p.peak_bytes};
}

}  // namespace lgn
