#include "dense_plan.h"

#include <cstddef>

#include "../cpu/dense_plan.h"

namespace lgn::cuda {

Walk make_walk(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs) {
  const Plan plan = make_plan(a, b, gates, inputs);
  Walk walk;
  walk.bad_gate = plan.bad_gate;
  if (plan.bad_gate >= 0) return walk;
  walk.visits.reserve(plan.steps.size() + plan.steps.size() / 8 + 1);
  std::vector<int32_t> stops(static_cast<size_t>(inputs), 0);
  const auto visit = [&](int32_t input, int32_t gate, bool swapped) {
    walk.visits.push_back({input, gate, input, swapped ? 1 : 0});
    stops[static_cast<size_t>(input)]++;
  };
  for (const Step& step : plan.steps) {
    if (step.flags & kTrail) visit(step.i, -1, false);
    visit(step.j, step.gate, (step.flags & kSwap) != 0);
  }
  // The slots of an input lie side by side, in the order of its stops.
  std::vector<int32_t> next(static_cast<size_t>(inputs), 0);
  int32_t slots = 0;
  for (int64_t input = 0; input < inputs; input++) {
    const int32_t count = stops[static_cast<size_t>(input)];
    if (count == 1) continue;
    walk.merge_inputs.push_back(static_cast<int32_t>(input));
    walk.merge_begin.push_back(slots);
    next[static_cast<size_t>(input)] = slots;
    slots += count;
  }
  walk.merge_begin.push_back(slots);
  for (Visit& stop : walk.visits) {
    const auto input = static_cast<size_t>(stop.input);
    if (stops[input] != 1) stop.target = ~next[input]++;
  }
  return walk;
}

}  // namespace lgn::cuda
