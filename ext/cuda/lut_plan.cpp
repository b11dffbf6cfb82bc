#include "lut_plan.h"

#include <cstddef>
#include <utility>

namespace lgn::cuda {

LutUses make_lut_uses(const int32_t* indices, int64_t count, int64_t features) {
  LutUses made;
  std::vector<int32_t> begin(static_cast<std::size_t>(features) + 1, 0);
  for (int64_t k = 0; k < count; k++) {
    if (indices[k] < 0 || indices[k] >= features) {
      made.bad_use = k;
      return made;
    }
    begin[static_cast<std::size_t>(indices[k]) + 1]++;
  }
  for (std::size_t f = 1; f < begin.size(); f++) begin[f] += begin[f - 1];
  made.uses.resize(static_cast<std::size_t>(count));
  std::vector<int32_t> next(begin.begin(), begin.end());
  for (int64_t k = 0; k < count; k++) {
    made.uses[static_cast<std::size_t>(next[static_cast<std::size_t>(indices[k])]++)] = static_cast<int32_t>(k);
  }
  made.begin = std::move(begin);
  return made;
}

}  // namespace lgn::cuda
