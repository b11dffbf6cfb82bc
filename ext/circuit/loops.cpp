// Takes the steps of a looped circuit over from Python.
#include "loops.h"

#include <algorithm>

namespace lgn {
namespace {

template <class T>
std::vector<T> take(const int32_t* from, int64_t count) {
  const T* const first = reinterpret_cast<const T*>(from);
  return std::vector<T>(first, first + count);
}

LoopStep take_step(const LgnLoopStep& given) {
  LoopStep step;
  if (given.runs) {
    step.runs = take<LoopRun>(given.run, given.runs);
    int64_t gates = 0;
    for (const LoopRun& run : step.runs) gates += run.count;
    step.gate_slots = take<int32_t>(given.gates, 3 * gates);
    return step;
  }
  step.places = given.places;
  step.window = static_cast<int32_t>(given.window);
  step.chunk = static_cast<int32_t>(given.chunk);
  step.part_gates = take<int32_t>(given.part_gates, given.parts + 1);
  step.part_results = take<int32_t>(given.part_results, given.parts + 1);
  step.gates = take<LoopGate>(given.gates, step.part_gates.back());
  step.results = take<LoopResult>(given.results, step.part_results.back());
  step.reads = take<int32_t>(given.reads, given.places * given.window);
  step.writes = take<int32_t>(given.writes, given.places);
  return step;
}

}  // namespace

Loops::Loops(int64_t inputs, int64_t registers, const LgnLoopStep* given, int64_t count)
    : inputs(inputs), registers(registers) {
  for (int64_t i = 0; i < count; ++i) steps.push_back(take_step(given[i]));
}

int64_t Loops::operations() const {
  int64_t sum = 0;
  for (const LoopStep& step : steps) {
    sum += static_cast<int64_t>(step.gate_slots.size() / 3);
    sum += step.places * step.window * static_cast<int64_t>(step.gates.size());
    sum += step.places * (step.window - 1) * static_cast<int64_t>(step.results.size());
  }
  return sum;
}

void Loops::run([[maybe_unused]] int32_t isa, uint8_t* slots, uint8_t* registers) const {
  const LoopKernels* kernels = &kGenericLoopKernels;
#if defined(__x86_64__)
  if (isa == kAvx512) kernels = &kAvx512LoopKernels;
  if (isa == kAvx2) kernels = &kAvx2LoopKernels;
#endif
  for (const LoopStep& step : steps) kernels->run(step, slots, registers);
}

}  // namespace lgn
