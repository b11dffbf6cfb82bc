#include "tree_plan.h"

#include <cstddef>

namespace lgn::cuda {

TreeUses make_tree_uses(const int32_t* leaves, int64_t trees, int64_t n, int32_t channels, int32_t lines,
                        int32_t columns) {
  const int64_t count = trees * n;
  const int32_t *channel = leaves, *line = leaves + count, *column = leaves + 2 * count;
  TreeUses made;
  made.begin.assign(static_cast<std::size_t>(channels) + 1, 0);
  for (int64_t i = 0; i < count; i++) {
    const bool inside = channel[i] >= 0 && channel[i] < channels && line[i] >= 0 && line[i] < lines && column[i] >= 0 &&
                        column[i] < columns;
    if (!inside) {
      made.bad_leaf = i;
      return made;
    }
    made.begin[static_cast<std::size_t>(channel[i]) + 1]++;
  }
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); c++) made.begin[c + 1] += made.begin[c];
  made.uses.resize(static_cast<std::size_t>(count));
  std::vector<int32_t> next(made.begin.begin(), made.begin.end() - 1);
  for (int64_t i = 0; i < count; i++) {
    made.uses[static_cast<std::size_t>(next[static_cast<std::size_t>(channel[i])]++)] = {
        static_cast<int32_t>(i / n), static_cast<int32_t>(i % n), line[i], column[i]};
  }
  return made;
}

}  // namespace lgn::cuda
