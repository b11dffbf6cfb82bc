// What all kernels are given: a tile of rows of samples.
//
// Activations are rows of samples: row `f` is feature `f`, `pitch` bytes apart, 64-byte aligned, padded to whole lines
// of 64 bytes. A tile is a run of lines of every row. Lanes past the batch may hold anything on input; kernels mask
// them.
#pragma once

#include <cstdint>

namespace lgn {

constexpr int64_t kLineBytes = 64;
// Lines of a tile; wider tiles no longer fit the registers that carry a row from gate to gate.
constexpr int kTileLines = 8;

struct Tile {
  int64_t offset;   // bytes from the start of a row
  int lines;        // 1 … kTileLines
  int64_t samples;  // samples of the batch in the tile; all lines but the last are full
};

}  // namespace lgn
