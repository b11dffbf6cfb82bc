// Which gates read a feature: what the backward pass of lookup tables gathers by.
#pragma once

#include <cstdint>
#include <vector>

#include "lut.h"

namespace lgn::cuda {

struct LutUses {
  std::vector<int32_t> uses;   // [inputs · gates] places of the indices, by feature and in their order
  std::vector<int32_t> begin;  // [features + 1]
  int64_t bad_use = -1;        // of an index outside the features; then there are no uses
};

// Of indices [inputs][gates], `count` of them.
LutUses make_lut_uses(const int32_t* indices, int64_t count, int64_t features);

}  // namespace lgn::cuda
