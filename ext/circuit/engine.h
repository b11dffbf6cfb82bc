// An engine: a circuit as a program, and what a block of samples is run with.
#pragma once
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"
#include "loops.h"
#include "machine_code.h"

namespace lgn {

// Aligned memory of one thread; slots begin at its start.
class Workspace {
 public:
  explicit Workspace(size_t bytes) {
    constexpr size_t kHugePage = size_t(1) << 21;
    const size_t alignment = bytes >= kHugePage / 4 ? kHugePage : 64;
    const size_t size = (bytes + alignment - 1) / alignment * alignment;
    memory_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, size)));
    if (!memory_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHugePage) madvise(memory_.get(), size, MADV_HUGEPAGE);
#endif
    std::memset(memory_.get(), 0, size);
  }
  uint8_t* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> memory_;
};

struct Job {
  const uint8_t* rows = nullptr;  // bytes, or
  const uint64_t* words = nullptr;
  int64_t row = 0, num_words = 0, num_levels = 0, samples = 0;
  const uint8_t* levels = nullptr;
  const LgnComparison* comparisons = nullptr;  // of rows of a table, num_levels of them
  int32_t *scores = nullptr, *classes = nullptr;
  uint64_t* output_bits = nullptr;
};

}  // namespace lgn

struct LgnEngine {
  int64_t inputs, classes, group;
  int32_t kind, isa;
  const lgn::Kernels* kernels;
  lgn::GroupedProgram grouped;                     // interpreter
  lgn::CodeBuffer buffer;                          // machine code,
  std::vector<size_t> pieces;                      // where its pieces begin
  std::vector<std::vector<uint32_t>> plane_slots;  // and where it leaves the counts
  std::vector<int64_t> offset;                     // to be added to the count of each class
  uint32_t slots = 0;
  int64_t operations = 0, bytes = 0, loads = 0, stores = 0;
  bool narrow_counts = true;
  std::unique_ptr<lgn::Loops> loops;  // run before the circuit; its inputs are then their slots
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<lgn::Workspace>> idle;

  std::unique_ptr<lgn::Workspace> take(size_t bytes_needed) const {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!idle.empty()) {
        auto workspace = std::move(idle.back());
        idle.pop_back();
        return workspace;
      }
    }
    return std::make_unique<lgn::Workspace>(bytes_needed);
  }
  void give_back(std::unique_ptr<lgn::Workspace> workspace) const {
    const std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(std::move(workspace));
  }

  // Inputs of a sample: of the circuit, or of the loops before it.
  int64_t sample_inputs() const { return loops ? loops->inputs : inputs; }

  // Layout of a workspace: slots, planes, counts, classes of a block, scratch of the packing, registers of the loops.
  size_t planes_at() const { return size_t(slots + 1) * lgn::kSlotBytes; }
  size_t counts_at() const { return planes_at() + size_t(lgn::kMaxPlanes) * lgn::kSlotBytes; }
  size_t best_at() const { return counts_at() + size_t(classes) * lgn::kBlock * sizeof(int32_t); }
  size_t scratch_at() const { return best_at() + lgn::kBlock * sizeof(int32_t); }
  size_t registers_at() const { return scratch_at() + size_t(lgn::scratch_words(sample_inputs())) * sizeof(uint64_t); }
  size_t workspace_bytes() const { return registers_at() + (loops ? size_t(loops->registers) * lgn::kSlotBytes : 0); }

  void run(const lgn::Job& job, int32_t threads) const;
  // Runs the gates on inputs that lie in the first slots.
  void run_program(uint8_t* memory) const;

 private:
  void work(const lgn::Job& job, std::atomic<int64_t>& next) const;
  void block(const lgn::Job& job, int64_t index, uint8_t* memory) const;
  void load(const lgn::Job& job, int64_t first, int samples, uint8_t* memory) const;
  template <class T>
  void count(uint8_t* memory) const;
  template <class T>
  void store(const lgn::Job& job, int64_t first, int samples, uint8_t* memory) const;
  void store_outputs(const lgn::Job& job, int64_t first, const uint8_t* memory) const;
};
