// The order in which the gates of a layer are visited.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"

namespace lgn {

// Gates are edges between their two inputs. Walking them as trails, each gate shares an input with the one before, so
// that a row is read once where two gates use it, and its gradient is summed in registers and written once. A layer
// whose inputs are each used twice, the usual random wiring, is a handful of closed trails.
struct Plan {
  std::vector<Step> steps;
  std::vector<int32_t> unused;  // inputs that no gate has
  int64_t revisits = 0;         // steps whose j was touched before
  int64_t max_uses = 0;         // gates on the most used input
  int64_t bad_gate = -1;        // a gate with an index outside the inputs; then there are no steps
};

Plan make_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs);

// The plan of a wiring, made once and kept. It is found by address and trusted only after comparing every index with
// the ones it was made for, so wires may change at any time. Safe to call from several threads and after a fork.
std::shared_ptr<const Plan> cached_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs);

}  // namespace lgn
