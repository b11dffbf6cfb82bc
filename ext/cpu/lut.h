// Interface of the kernels of lookup tables of 2 to 6 inputs.
#pragma once

#include <cstdint>

#include "tile.h"

namespace lgn {

// Lines of a tile here: narrow, since the tiles are what threads share.
constexpr int kLutLines = 4;

// One layer. Entry e of a gate's table is for the inputs whose bits are the digits of e, the first input's the highest.
struct LutLayer {
  const int32_t* indices;  // [inputs][gates]
  int64_t gates;
  int inputs;  // 2 … 6

  int64_t entries() const { return int64_t{1} << inputs; }
};

// All for gates begin … end-1 and the samples of one tile of at most kLutLines lines.
struct LutKernels {
  void (*forward)(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, int64_t begin, int64_t end,
                  char* y, int64_t y_pitch, const Tile& tile);
  // Adds to the rows of grad_x, whose lanes past the batch it leaves alone (null if they are not wanted), and to the
  // gradient of the table, [gates][2^inputs].
  void (*backward)(const LutLayer& layer, const char* x, int64_t x_pitch, const void* table, const char* grad,
                   int64_t grad_pitch, int64_t begin, int64_t end, char* grad_x, int64_t grad_x_pitch, void* grad_table,
                   const Tile& tile);
};

// Hard tables: numbers whose bit 2^inputs - 1 - e is entry e.
struct LutBitKernels {
  // Packed rows as in BitKernels.
  void (*forward)(const LutLayer& layer, const uint8_t* x, int64_t x_pitch, const int64_t* ids, int64_t begin,
                  int64_t end, uint8_t* y, int64_t y_pitch);
  // Logits [gates][entries] to numbers: an entry is 1 where its logit is positive.
  void (*ids)(const float* logits, int64_t entries, int64_t begin, int64_t end, int64_t* out);
};

}  // namespace lgn
