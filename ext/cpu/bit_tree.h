// Interface of the kernels of convolutions with trees of hard gates on packed samples.
#pragma once

#include <cstdint>

#include "tree.h"

namespace lgn {

// Hard trees on packed samples (bit_tree_simd.h). Rows are strings of bytes as those of BitLayerKernels; `gates` are
// the ids of [trees][leaves - 1] gates.
struct BitTreeForward {
  TreeShape shape;
  const uint8_t* x;
  int64_t x_pitch;
  const uint8_t* gates;
  uint8_t* y;
  uint8_t* winner;  // winner_digits() times the rows of y
  int64_t pitch;    // of y and winner
};

// Gradients are rows of float, padded to whole lines.
struct BitTreeBackward {
  TreeShape shape;
  const uint8_t* x;
  int64_t x_pitch;
  const uint8_t* gates;
  const uint8_t* winner;
  int64_t winner_pitch;
  const char* grad;
  int64_t grad_pitch;
  const float* slopes;  // the table that gradients pass through
};

// As TreeKernels.
struct BitTreeKernels {
  int64_t (*scratch_bytes)(const TreeShape& shape);
  void (*forward)(const BitTreeForward& call, int64_t begin, int64_t end, void* scratch);
  void (*backward)(const BitTreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                   int64_t grad_x_pitch, float* sums, float* shares, void* scratch);
};

}  // namespace lgn
