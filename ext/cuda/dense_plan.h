// The walk of a layer: the order in which its gates are visited on a GPU.
#pragma once

#include <cstdint>
#include <vector>

#include "dense.h"

namespace lgn::cuda {

// The trails of ext/cpu/dense_plan.h as one row of stops: consecutive stops of a trail are the two inputs of a gate, so
// that a warp that walks along reads each row once for two gates. Runs of stops of any length can be processed side by
// side.
struct Walk {
  std::vector<Visit> visits;
  std::vector<int32_t> merge_inputs;  // inputs that do not have exactly one stop
  std::vector<int32_t> merge_begin;   // [merges + 1], their slots
  int64_t bad_gate = -1;              // a gate with an index outside the inputs; then there are no stops
};

Walk make_walk(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs);

}  // namespace lgn::cuda
