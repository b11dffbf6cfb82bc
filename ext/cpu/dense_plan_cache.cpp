#include "dense_plan_cache.h"

#include <pthread.h>

#include <cstring>
#include <list>
#include <mutex>

namespace lgn {
namespace {

// Wirings kept at most, by the memory of their indices: a hundred layers of a million gates. Of wires that are gone, as
// those of learned connections are after a step, only the last few: equal ones may come again.
constexpr int64_t kCacheBytes = int64_t{1} << 30;
constexpr int64_t kGoneBytes = int64_t{1} << 27, kGoneEntries = 64;

struct Entry {
  const int32_t* a;  // where the indices were last seen
  const int32_t* b;
  int64_t inputs;
  uint64_t hash;
  std::vector<int32_t> indices;  // a, then b
  std::shared_ptr<const Plan> plan;
  WiresLive live;

  bool fits(const int32_t* a2, const int32_t* b2, int64_t gates, int64_t inputs2) const {
    const size_t bytes = static_cast<size_t>(gates) * sizeof(int32_t);
    return inputs == inputs2 && static_cast<int64_t>(indices.size()) == 2 * gates &&
           (gates == 0 ||
            (std::memcmp(indices.data(), a2, bytes) == 0 && std::memcmp(indices.data() + gates, b2, bytes) == 0));
  }
  int64_t bytes() const { return static_cast<int64_t>(indices.size() * (sizeof(int32_t) + sizeof(Step) / 2)); }
};

struct Cache {
  std::mutex mutex;
  std::list<Entry> entries;  // the most recently used first

  void forget_surplus() {
    int64_t bytes = 0, gone_bytes = 0, gone = 0;
    for (auto entry = entries.begin(); entry != entries.end();) {
      const bool lives = entry->live();
      const int64_t its_bytes = entry->bytes();
      const bool fits =
          bytes + its_bytes <= kCacheBytes && (lives || (gone < kGoneEntries && gone_bytes + its_bytes <= kGoneBytes));
      if (!fits && entry != entries.begin()) {
        entry = entries.erase(entry);
        continue;
      }
      bytes += its_bytes;
      gone_bytes += lives ? 0 : its_bytes;
      gone += !lives;
      ++entry;
    }
  }
};

Cache& cache() {
  static Cache* instance = [] {
    // Never destroyed: tensors and threads may outlive static objects. A forked child must not inherit a held lock.
    auto* made = new Cache;
    pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); }, [] { cache().mutex.unlock(); });
    return made;
  }();
  return *instance;
}

// Four streams side by side: one alone would wait for its multiplications.
uint64_t hash_indices(const int32_t* p, int64_t count, uint64_t seed) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;
  uint64_t h[4] = {seed, seed + 1, seed + 2, seed + 3};
  int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    for (int q = 0; q < 4; q++) h[q] = (h[q] ^ static_cast<uint32_t>(p[k + q])) * kFactor;
  }
  for (; k < count; k++) h[0] = (h[0] ^ static_cast<uint32_t>(p[k])) * kFactor;
  for (int q = 1; q < 4; q++) h[0] = (h[0] ^ h[q] ^ (h[q] >> 29)) * kFactor;
  return h[0] ^ (h[0] >> 29);
}

}  // namespace

std::shared_ptr<const Plan> cached_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs,
                                        const WiresLive& live) {
  Cache& kept = cache();
  const auto take = [&](std::list<Entry>::iterator entry) {
    entry->live = live;  // another tensor may lie where the one before it was
    kept.entries.splice(kept.entries.begin(), kept.entries, entry);
    return kept.entries.front().plan;
  };
  std::unique_lock<std::mutex> lock(kept.mutex);
  for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
    if (entry->a == a && entry->b == b && entry->fits(a, b, gates, inputs)) return take(entry);
  }
  const uint64_t hash = hash_indices(b, gates, hash_indices(a, gates, 1));
  for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
    if (entry->hash == hash && entry->fits(a, b, gates, inputs)) {
      entry->a = a;
      entry->b = b;
      return take(entry);
    }
  }
  lock.unlock();
  Entry made{a, b, inputs, hash, {}, nullptr, live};
  made.indices.reserve(static_cast<size_t>(2 * gates));
  made.indices.assign(a, a + gates);
  made.indices.insert(made.indices.end(), b, b + gates);
  made.plan = std::make_shared<const Plan>(make_plan(made.indices.data(), made.indices.data() + gates, gates, inputs));
  lock.lock();
  kept.entries.push_front(std::move(made));
  kept.forget_surplus();
  return kept.entries.front().plan;
}

}  // namespace lgn
