#include "dense_plan.h"

#include <algorithm>

namespace lgn {
namespace {

// A chunk is worth a thread's start, and more chunks than this are never needed.
constexpr int64_t kChunkSteps = 1024, kMaxChunks = 16;

bool starts_trail(const Plan& plan, int64_t step, int64_t chunk_begin) {
  return step == chunk_begin || (plan.steps[static_cast<size_t>(step)].flags & kTrail);
}

// Whether so many chunks have at most `most` side rows.
bool side_rows_fit(const Plan& plan, int64_t chunks, int64_t inputs, int64_t most) {
  const auto steps = static_cast<int64_t>(plan.steps.size());
  std::vector<int8_t> last_chunk(static_cast<size_t>(inputs), -1);
  static_assert(kMaxChunks < 128);
  for (int64_t c = 0; c < chunks; c++) {
    const auto touch = [&](int32_t input) {
      int8_t& last = last_chunk[static_cast<size_t>(input)];
      most -= last >= 0 && last != c;
      last = static_cast<int8_t>(c);
    };
    const int64_t begin = c * steps / chunks, end = (c + 1) * steps / chunks;
    for (int64_t p = begin; p < end && most >= 0; p++) {
      if (starts_trail(plan, p, begin)) touch(plan.steps[static_cast<size_t>(p)].i);
      touch(plan.steps[static_cast<size_t>(p)].j);
    }
  }
  return most >= 0;
}

// Side rows cost what a gate costs: fewer chunks where they would be many.
int64_t choose_chunks(const Plan& plan, int64_t inputs) {
  const auto steps = static_cast<int64_t>(plan.steps.size());
  int64_t chunks = std::clamp<int64_t>(steps / kChunkSteps, 1, kMaxChunks);
  while (chunks > 1 && !side_rows_fit(plan, chunks, inputs, chunks == 2 ? steps / 3 : steps / 8)) {
    chunks = chunks > 3 ? chunks / 2 : chunks - 1;
  }
  return chunks;
}

// Cuts the steps into chunks and sets the flags that depend on it.
void cut(Plan& plan, int64_t chunks, int64_t inputs) {
  const auto steps = static_cast<int64_t>(plan.steps.size());
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
      if (starts_trail(plan, p, chunk.begin)) {
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
  std::vector<int32_t> next(static_cast<size_t>(inputs) + 1);
  std::vector<BitUse> uses(static_cast<size_t>(2 * gates + kUsesAhead));
  list_uses(a, b, gates, inputs, nullptr, next.data(), uses.data());
  const std::vector<int32_t> begin = next;
  for (int64_t i = 0; i < inputs; i++) {
    const int64_t count = begin[static_cast<size_t>(i) + 1] - begin[static_cast<size_t>(i)];
    if (count == 0) plan.unused.push_back(static_cast<int32_t>(i));
    if (count > plan.max_uses) plan.max_uses = count;
  }
  std::vector<char> done(static_cast<size_t>(gates), 0);
  plan.steps.reserve(static_cast<size_t>(gates));
  for (int64_t first = 0; first < inputs; first++) {
    for (bool found = true; found;) {
      found = false;
      for (int64_t i = first;;) {
        auto& cursor = next[static_cast<size_t>(i)];
        const int32_t end = begin[static_cast<size_t>(i) + 1];
        while (cursor < end && done[uses[static_cast<size_t>(cursor)].use / 2]) cursor++;
        if (cursor == end) break;
        const BitUse use = uses[static_cast<size_t>(cursor++)];
        done[use.use / 2] = 1;
        const uint32_t flags = (use.use & 1 ? uint32_t{kSwap} : 0) | (found ? 0 : uint32_t{kTrail});
        plan.steps.push_back({static_cast<int32_t>(use.use / 2), static_cast<int32_t>(i), use.other, flags});
        found = true;
        i = use.other;
      }
    }
  }
  cut(plan, choose_chunks(plan, inputs), inputs);
  return plan;
}

}  // namespace lgn
