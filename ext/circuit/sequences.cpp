// Sequences through an engine whose circuit is one step: each output is a class of its own, the last ones are the
// state.
#include <algorithm>

#include "engine.h"
#include "threads.h"

using namespace lgn;

namespace {

// Where an output is after a step: a slot, perhaps complemented, or a constant.
struct Output {
  int64_t slot = -1;
  bool complemented = false;  // of a constant: its value
};

std::vector<Output> outputs_of(const LgnEngine& engine) {
  std::vector<Output> outputs(static_cast<size_t>(engine.classes));
  for (size_t i = 0; i < outputs.size(); ++i) {
    Output& output = outputs[i];
    if (engine.kind == kMachineCode) {
      // The count of one bit has one plane, or is a constant.
      if (!engine.plane_slots[i].empty()) output.slot = engine.plane_slots[i][0];
      output.complemented = engine.offset[i] != 0;
    } else {
      if (!engine.grouped.output_constant[i]) output.slot = engine.grouped.output_slot[i];
      output.complemented = engine.grouped.output_complemented[i] || engine.grouped.output_constant[i] == 2;
    }
  }
  return outputs;
}

class Runner {
 public:
  Runner(const LgnEngine& engine, const LgnSequences& job)
      : engine_(engine), job_(job), outputs_(outputs_of(engine)), group_(job.counted / job.classes) {
    sums_.resize(static_cast<size_t>(job.classes));
    base_.assign(sums_.size(), 0);
    for (int64_t i = 0; i < job.counted; ++i) {
      const Output& output = outputs_[static_cast<size_t>(i)];
      const size_t c = static_cast<size_t>(i / group_);
      if (output.slot < 0)
        base_[c] += output.complemented;
      else
        (output.complemented ? sums_[c].complemented : sums_[c].plain).push_back(static_cast<uint32_t>(output.slot));
    }
  }

  void work(std::atomic<int64_t>& next) const {
    const int64_t blocks = (job_.samples + kBlock - 1) / kBlock;
    auto workspace = engine_.take(engine_.workspace_bytes());
    std::vector<uint64_t> state(static_cast<size_t>(job_.state * kWords));
    for (int64_t index; (index = next.fetch_add(1)) < blocks;) block(index, workspace->data(), state);
    engine_.give_back(std::move(workspace));
  }

 private:
  static constexpr int64_t kWords = kBlock / 64;

  void block(int64_t index, uint8_t* memory, std::vector<uint64_t>& state) const {
    const int64_t first = index * kBlock, samples = std::min<int64_t>(kBlock, job_.samples - first);
    const int64_t word = first / 64, words = std::min<int64_t>(kWords, job_.words - word);
    const int64_t counted = job_.counted;
    for (int64_t i = 0; i < job_.state; ++i)
      for (int64_t w = 0; w < kWords; ++w)
        state[static_cast<size_t>(i * kWords + w)] = job_.initial[i] ? ~uint64_t(0) : 0;
    int64_t last = job_.steps;
    if (job_.lengths) last = *std::max_element(job_.lengths + first, job_.lengths + first + samples);
    std::memset(job_.scores + first * job_.classes, 0, static_cast<size_t>(samples * job_.classes) * sizeof(int32_t));
    for (int64_t t = 0; t < last; ++t) {
      const uint64_t* const step = job_.inputs + t * job_.num_inputs * job_.words + word;
      for (int64_t i = 0; i < job_.num_inputs; ++i)
        std::memcpy(memory + i * kSlotBytes, step + i * job_.words, static_cast<size_t>(words) * 8);
      std::memcpy(memory + job_.num_inputs * kSlotBytes, state.data(), state.size() * 8);
      engine_.run_program(memory);
      for (int64_t i = 0; i < job_.state; ++i) {
        const Output& output = outputs_[static_cast<size_t>(counted + i)];
        uint64_t* const to = state.data() + i * kWords;
        const uint64_t flip = output.complemented ? ~uint64_t(0) : 0;
        if (output.slot < 0)
          std::fill(to, to + kWords, flip);
        else {
          std::memcpy(to, memory + output.slot * kSlotBytes, kSlotBytes);
          if (flip)
            for (int64_t w = 0; w < kWords; ++w) to[w] = ~to[w];
        }
      }
      add(t, first, samples, last, memory);
    }
  }

  // Adds what counts of a step to the scores.
  void add(int64_t t, int64_t first, int64_t samples, int64_t last, uint8_t* memory) const {
    const auto ends = [&](int64_t j) { return job_.lengths ? job_.lengths[first + j] : last; };
    bool any = false;
    for (int64_t j = 0; j < samples && !any; ++j) any = job_.summed ? ends(j) > t : ends(j) == t + 1;
    if (!any) return;
    uint8_t* const planes = memory + engine_.planes_at();
    int32_t* const counts = reinterpret_cast<int32_t*>(memory + engine_.counts_at());
    for (size_t c = 0; c < sums_.size(); ++c) {
      const uint8_t* list[kMaxPlanes];
      const int count = engine_.kernels->count_ones(sums_[c], memory, planes);
      for (int d = 0; d < count; ++d) list[d] = planes + d * kSlotBytes;
      engine_.kernels->read_planes32(list, count, base_[c], counts + c * kBlock);
    }
    for (int64_t j = 0; j < samples; ++j) {
      if (!(job_.summed ? ends(j) > t : ends(j) == t + 1)) continue;
      int32_t* const out = job_.scores + (first + j) * job_.classes;
      for (int64_t c = 0; c < job_.classes; ++c) out[c] += counts[c * kBlock + j];
    }
  }

  const LgnEngine& engine_;
  const LgnSequences& job_;
  std::vector<Output> outputs_;
  std::vector<GroupedProgram::ClassSum> sums_;  // by class, of what is counted
  std::vector<int32_t> base_;                   // ones that are constants
  int64_t group_;
};

}  // namespace

int lgn_engine_sequences(const LgnEngine* engine, const LgnSequences* job, int32_t threads) try {
  const Runner runner(*engine, *job);
  on_threads(job->samples, threads, [&](std::atomic<int64_t>& next) { runner.work(next); });
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}
