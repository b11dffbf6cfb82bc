// Who reads a channel: the inverse of the leaves of a convolution with trees, for the gradient of its input.
#pragma once

#include <cstdint>
#include <vector>

#include "tree.h"

namespace lgn::cuda {

struct TreeUses {
  std::vector<TreeUse> uses;   // by channel, then by tree and leaf
  std::vector<int32_t> begin;  // [channels + 1]
  int64_t bad_leaf = -1;       // a leaf outside the receptive field; then there are no uses
};

// Of leaves [3][trees][n] on a receptive field of channels, lines and columns.
TreeUses make_tree_uses(const int32_t* leaves, int64_t trees, int64_t n, int32_t channels, int32_t lines,
                        int32_t columns);

}  // namespace lgn::cuda
