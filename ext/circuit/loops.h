// Convolutions as loops: plain gates and kernels at many places, which run on the slots before an engine's circuit
// does.
#pragma once
#include <cstdint>
#include <vector>

#include "api.h"
#include "program.h"

namespace lgn {

struct LoopGate {
  int32_t table, a, b, out;  // a, b: slot of a leaf at base 0, or ~register; out: register
};

struct LoopResult {
  int32_t value, slot;  // value as an operand above
};

struct LoopRun {
  int32_t table, count;
};

struct LoopStep {
  std::vector<LoopRun> runs;  // of plain gates, with out, a and b of each in `gate_slots`
  std::vector<int32_t> gate_slots;
  int64_t places = 0;  // or a kernel: places of its results,
  int32_t window = 1;  // each the OR of so many places of the kernel,
  int32_t chunk = 1;   // and how many results of a part are computed together
  std::vector<int32_t> part_gates, part_results, reads, writes;
  std::vector<LoopGate> gates;
  std::vector<LoopResult> results;
};

// Steps in front of an engine. Slots are those of the engine's circuit, whose inputs they are; registers lie apart.
struct Loops {
  int64_t inputs = 0, registers = 0;
  std::vector<LoopStep> steps;

  Loops(int64_t inputs, int64_t registers, const LgnLoopStep* steps, int64_t count);
  int64_t operations() const;  // two-operand operations of a block of samples
  void run(int32_t isa, uint8_t* slots, uint8_t* registers) const;
};

// The inner loops, compiled once for each instruction set.
struct LoopKernels {
  void (*run)(const LoopStep& step, uint8_t* slots, uint8_t* registers);
};

extern const LoopKernels kGenericLoopKernels;
#if defined(__x86_64__)
extern const LoopKernels kAvx2LoopKernels, kAvx512LoopKernels;
#endif

}  // namespace lgn
