// Interface of the kernels of convolutions with trees of gates.
#pragma once

#include <cstdint>

#include "tile.h"

namespace lgn {

// Lines of a tile here: what fits the registers that carry one node of a tree.
constexpr int kTreeLines = 4;

// Sizes of one convolution and the pooling behind it. Images are rows, one for each channel, line and column.
struct TreeShape {
  int64_t channels, height, width;
  int64_t trees, leaves;
  int64_t out_height, out_width;  // after pooling
  int64_t stride_h, stride_w, pad_h, pad_w, pool_h, pool_w;
  const int32_t* leaf;  // [3][trees][leaves]: channel, and line and column in the receptive field
  // Of learned leaves, what each chooses among, [3][trees][leaves · candidates]; 0 and null otherwise.
  int64_t candidates = 0;
  const int32_t* candidate = nullptr;

  int64_t in_rows() const { return channels * height * width; }
  int64_t out_rows() const { return trees * out_height * out_width; }
  int64_t pool() const { return pool_h * pool_w; }
  int64_t gates() const { return trees * (leaves - 1); }
  int64_t choices() const { return leaves * candidates; }  // of one tree
  // Binary digits that tell the positions of a window apart.
  int64_t winner_digits() const {
    int64_t digits = 0;
    while (int64_t{1} << digits < pool()) digits++;
    return digits;
  }
};

// A winner is the position in a pooling window that the maximum came from, one byte a sample; null if nothing is
// pooled.
struct TreeForward {
  TreeShape shape;
  const char* x;
  int64_t x_pitch;
  const void* table;
  char* y;
  int64_t y_pitch;
  uint8_t* winner;
  int64_t winner_pitch;
};

struct TreeBackward {
  TreeShape shape;
  const char* x;
  int64_t x_pitch;
  const char* grad;
  int64_t grad_pitch;
  const uint8_t* winner;
  int64_t winner_pitch;
  const void* table;
  const void* slopes;  // the table that gradients pass through: `table` or another one
};

// All for trees begin … end-1 and the samples of one tile of at most kTreeLines lines. `scratch` is aligned memory of
// scratch_bytes() that nothing else uses meanwhile.
struct TreeKernels {
  int64_t (*scratch_bytes)(const TreeShape& shape);
  void (*forward)(const TreeForward& call, const Tile& tile, int64_t begin, int64_t end, void* scratch);
  // Adds to the rows of `grad_x`, which are unpacked sums of this tile alone (null if they are not wanted), and to
  // `sums`, those of g, g·a, g·b and g·a·b of every gate. Of learned leaves also to `shares`, [trees][choices()]: sums
  // of the gradient of a leaf times what each candidate reads.
  void (*backward)(const TreeBackward& call, const Tile& tile, int64_t begin, int64_t end, char* grad_x,
                   int64_t grad_x_pitch, void* sums, void* shares, void* scratch);
};

}  // namespace lgn
