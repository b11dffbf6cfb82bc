// Interface of the kernels of convolutions with trees of hard gates on packed bits.
#pragma once

#include "tree.h"

namespace lgn::cuda {

// Packed rows as in bits.h: x and y are rows of bits, pitches in bytes; gates are ids
// [trees][n - 1]; the table of TreeArgs is not used, and its storage is kF32, that of all gradients. Of a pooling the
// winner is the first place whose tree gives 1, else the first of all: `winner` gets the binary digits of its number,
// rows [digits][trees][out_height][out_width] of bits.
constexpr int kMaxWinnerDigits = 8;
int winner_digits(const TreeArgs& tree);
void bit_tree_forward(const TreeArgs& tree, const uint8_t* gates, uint8_t* y, uint8_t* winner, int64_t pitch,
                      cudaStream_t stream);
void bit_tree_backward(const TreeArgs& tree, const uint8_t* gates, const TreeGradientArgs& gradient,
                       cudaStream_t stream);

}  // namespace lgn::cuda
