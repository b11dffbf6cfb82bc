#include "plan.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

namespace lgn {
namespace {

// A chunk is worth a thread's start, and more chunks than this are never needed.
constexpr int64_t kChunkSteps = 1024, kMaxChunks = 16;

// Wirings kept at most, by the memory of their indices: a hundred layers of a million gates.
constexpr int64_t kCacheBytes = int64_t{1} << 30;

struct Entry {
  const int32_t* a;  // where the indices were last seen
  const int32_t* b;
  int64_t inputs;
  uint64_t hash;
  std::vector<int32_t> indices;  // a, then b
  std::shared_ptr<const Plan> plan;

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
  int64_t bytes = 0;
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

uint64_t hash_indices(const int32_t* p, int64_t count, uint64_t hash) {
  for (int64_t k = 0; k < count; k++) hash = (hash ^ static_cast<uint32_t>(p[k])) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

// Cuts the steps into chunks and sets the flags that depend on it.
void cut(Plan& plan, int64_t chunks, int64_t inputs) {
  const auto steps = static_cast<int64_t>(plan.steps.size());
  plan.chunks.clear();
  plan.side_list.clear();
  plan.merges.clear();
  plan.side_rows = plan.revisits = 0;
  // The row that an input's gradient has in the chunk that touched it last.
  std::vector<int32_t> last_chunk(static_cast<size_t>(inputs), -1), row(last_chunk);
  for (int64_t c = 0; c < chunks; c++) {
    const Chunk chunk{c * steps / chunks, (c + 1) * steps / chunks, static_cast<int64_t>(plan.side_list.size())};
    plan.chunks.push_back(chunk);
    // Whether this is the chunk's first touch of the input.
    const auto touch = [&](int32_t input) {
      const auto at = static_cast<size_t>(input);
      if (last_chunk[at] == c) return false;
      if (last_chunk[at] < 0) {
        row[at] = input;
      } else {
        row[at] = static_cast<int32_t>(inputs + plan.side_rows++);
        plan.merges.push_back({input, row[at]});
      }
      last_chunk[at] = static_cast<int32_t>(c);
      return true;
    };
    for (int64_t p = chunk.begin; p < chunk.end; p++) {
      Step& step = plan.steps[static_cast<size_t>(p)];
      const bool trail_ends = p + 1 == steps || (plan.steps[static_cast<size_t>(p) + 1].flags & kTrail);
      uint32_t flags = step.flags & (kSwap | kTrail);
      if (p == chunk.begin || (flags & kTrail)) {
        flags |= kStart;
        if (touch(step.i)) flags |= kFirstI;
        if (row[static_cast<size_t>(step.i)] != step.i) {
          flags |= kSideI;
          plan.side_list.push_back(row[static_cast<size_t>(step.i)]);
        }
      }
      if (touch(step.j)) {
        flags |= kFirstJ;
      } else {
        plan.revisits++;
      }
      if (row[static_cast<size_t>(step.j)] != step.j) {
        flags |= kSideJ;
        plan.side_list.push_back(row[static_cast<size_t>(step.j)]);
      }
      if (trail_ends || p + 1 == chunk.end) flags |= kLast;
      step.flags = flags;
    }
  }
}

}  // namespace

int64_t find_bad_gate(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs) {
  for (int64_t g = 0; g < gates; g++) {
    if (a[g] < 0 || a[g] >= inputs || b[g] < 0 || b[g] >= inputs) return g;
  }
  return -1;
}

void list_uses(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs, const int32_t* begin_above,
               int32_t* begin, BitUse* uses) {
  const auto is_read = [&](int64_t g) {
    return int32_t{begin_above == nullptr || begin_above[g] < begin_above[g + 1]};
  };
  std::fill_n(begin, inputs + 1, 0);
  for (int64_t g = 0; g < gates; g++) {
    begin[a[g]] += is_read(g);
    begin[b[g]] += is_read(g);
  }
  for (int64_t i = 0; i < inputs; i++) begin[i + 1] += begin[i];
  // Each begin is the end of its uses now, and goes back to their start as they are filled in.
  const int32_t total = begin[inputs];
  std::fill_n(uses + total, kUsesAhead, BitUse{0, 0});
  for (int64_t g = gates; g-- > 0;) {
    const auto put = [&](int32_t input, uint32_t side, int32_t other) {
      begin[input] -= is_read(g);
      uses[is_read(g) ? begin[input] : total] = {static_cast<uint32_t>(2 * g) + side, other};
    };
    put(b[g], 1, a[g]);
    put(a[g], 0, b[g]);
  }
}

Plan make_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs) {
  Plan plan;
  plan.bad_gate = find_bad_gate(a, b, gates, inputs);
  if (plan.bad_gate >= 0) return plan;
  // Uses of each input, ascending by gate: entry 2g is gate g's first input, 2g + 1 its second.
  std::vector<int64_t> next(static_cast<size_t>(inputs) + 1, 0);
  for (int64_t g = 0; g < gates; g++) {
    next[static_cast<size_t>(a[g]) + 1]++;
    next[static_cast<size_t>(b[g]) + 1]++;
  }
  for (int64_t i = 0; i < inputs; i++) {
    const int64_t uses = next[static_cast<size_t>(i) + 1];
    if (uses == 0) plan.unused.push_back(static_cast<int32_t>(i));
    if (uses > plan.max_uses) plan.max_uses = uses;
    next[static_cast<size_t>(i) + 1] += next[static_cast<size_t>(i)];
  }
  const std::vector<int64_t> begin = next;
  std::vector<int64_t> uses(static_cast<size_t>(2 * gates));
  for (int64_t g = 0; g < gates; g++) {
    uses[static_cast<size_t>(next[static_cast<size_t>(a[g])]++)] = 2 * g;
    uses[static_cast<size_t>(next[static_cast<size_t>(b[g])]++)] = 2 * g + 1;
  }
  next = begin;
  std::vector<char> done(static_cast<size_t>(gates), 0);
  plan.steps.reserve(static_cast<size_t>(gates));
  for (int64_t first = 0; first < inputs; first++) {
    for (bool found = true; found;) {
      found = false;
      for (int64_t i = first;;) {
        auto& cursor = next[static_cast<size_t>(i)];
        const int64_t end = begin[static_cast<size_t>(i) + 1];
        while (cursor < end && done[static_cast<size_t>(uses[static_cast<size_t>(cursor)] / 2)]) cursor++;
        if (cursor == end) break;
        const int64_t use = uses[static_cast<size_t>(cursor++)], g = use / 2;
        done[static_cast<size_t>(g)] = 1;
        const int32_t j = use & 1 ? a[g] : b[g];
        const uint32_t flags = (use & 1 ? uint32_t{kSwap} : 0) | (found ? 0 : uint32_t{kTrail});
        plan.steps.push_back({static_cast<int32_t>(g), static_cast<int32_t>(i), j, flags});
        found = true;
        i = j;
      }
    }
  }
  // Side rows cost what a gate costs: fewer chunks where they would be many.
  for (int64_t chunks = std::clamp<int64_t>(gates / kChunkSteps, 1, kMaxChunks);;
       chunks = chunks > 3 ? chunks / 2 : chunks - 1) {
    cut(plan, chunks, inputs);
    if (plan.side_rows * 8 <= gates || (chunks == 2 && plan.side_rows * 3 <= gates)) break;
  }
  return plan;
}

std::shared_ptr<const Plan> cached_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs) {
  Cache& kept = cache();
  {
    const std::lock_guard<std::mutex> guard(kept.mutex);
    for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
      if (entry->a == a && entry->b == b && entry->fits(a, b, gates, inputs)) {
        kept.entries.splice(kept.entries.begin(), kept.entries, entry);
        return kept.entries.front().plan;
      }
    }
    const uint64_t hash = hash_indices(b, gates, hash_indices(a, gates, 1));
    for (auto entry = kept.entries.begin(); entry != kept.entries.end(); ++entry) {
      if (entry->hash == hash && entry->fits(a, b, gates, inputs)) {
        entry->a = a;
        entry->b = b;
        kept.entries.splice(kept.entries.begin(), kept.entries, entry);
        return kept.entries.front().plan;
      }
    }
  }
  Entry made{a, b, inputs, hash_indices(b, gates, hash_indices(a, gates, 1)), {}, nullptr};
  made.indices.assign(a, a + gates);
  made.indices.insert(made.indices.end(), b, b + gates);
  made.plan = std::make_shared<const Plan>(make_plan(made.indices.data(), made.indices.data() + gates, gates, inputs));
  const std::lock_guard<std::mutex> guard(kept.mutex);
  kept.bytes += made.bytes();
  kept.entries.push_front(std::move(made));
  while (kept.bytes > kCacheBytes && kept.entries.size() > 1) {
    kept.bytes -= kept.entries.back().bytes();
    kept.entries.pop_back();
  }
  return kept.entries.front().plan;
}

}  // namespace lgn
