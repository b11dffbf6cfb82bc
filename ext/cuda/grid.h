// Who does what: the mapping of blocks, warps and lanes to gates and samples, for host and device alike.
#pragma once

#include "element.h"

namespace lgn::cuda {

constexpr int kWarp = 32;
constexpr int kBlockWarps = 8;
constexpr int kThreads = kWarp * kBlockWarps;
// Stops of a walk that one warp takes; each run of stops costs up to three rows more than it has.
constexpr int kMinChunk = 4;
constexpr int kMaxChunk = 32;
// Warps that keep a large GPU busy. A constant, so that no result depends on the GPU; tests on the host take fewer.
#if !defined(LGN_BUSY_WARPS)
#define LGN_BUSY_WARPS 16384
#endif
constexpr int64_t kBusyWarps = LGN_BUSY_WARPS;

LGN_HD int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }

// Samples of a layer: a lane has `vec` neighbouring samples, a tile is what a warp has. Up to eight warps share a chunk
// of stops, each with every so many-th tile.
struct Tiles {
  int64_t count;
  int warps;
};
LGN_HD Tiles tiles_of(int64_t batch, int vec) {
  Tiles tiles{ceil_div(batch, int64_t{kWarp} * vec), 1};
  while (tiles.warps < tiles.count && tiles.warps < kBlockWarps) tiles.warps *= 2;
  return tiles;
}
LGN_HD int chunk_of(int64_t visits, int warps) {
  int chunk = kMinChunk;
  while (chunk < kMaxChunk && ceil_div(visits, chunk) * warps > kBusyWarps) chunk *= 2;
  return chunk;
}
LGN_HD int64_t blocks_of(int64_t visits, int chunk, int warps) {
  return ceil_div(ceil_div(visits, chunk), kBlockWarps / warps);
}
LGN_HD int64_t first_sample(int64_t tile, int lane, int vec) { return (tile * kWarp + lane) * vec; }

// Lanes that share a row of `vectors` vectors: a power of two up to a warp.
LGN_HD int lanes_of(int64_t vectors) {
  int lanes = 1;
  while (lanes < vectors && lanes < kWarp) lanes *= 2;
  return lanes;
}

}  // namespace lgn::cuda
