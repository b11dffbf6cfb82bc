// Interface of the kernels on packed bits.
#pragma once

#include <cstdint>

#include "tile.h"

namespace lgn {

// Kernels on packed bits. A row of packed samples is a string of bytes, sample s in bit s % 8 of byte s / 8, whatever
// the width of the words (little-endian). Rows are padded to whole lines and every byte of them may be read and
// written.
struct BitKernels {
  // x: bools, sample stride 1 and feature stride `x_feature`, or the other way round.
  void (*pack)(const uint8_t* x, int64_t x_sample, int64_t x_feature, int64_t samples, int64_t begin, int64_t end,
               uint8_t* out, int64_t pitch);
  // out: bools [samples, features], contiguous.
  void (*unpack)(const uint8_t* x, int64_t pitch, int64_t samples, int64_t features, int64_t begin, int64_t end,
                 uint8_t* out);
  void (*logic)(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                int64_t begin, int64_t end, uint8_t* y, int64_t y_pitch);
  // Set bits of rows begin … end-1 per sample of the 8-byte word at `byte`: counts[64].
  void (*count)(const uint8_t* x, int64_t pitch, int64_t byte, int64_t begin, int64_t end, int32_t* counts);
};

}  // namespace lgn
