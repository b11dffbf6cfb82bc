// What the forward and the backward kernel of tree convolutions share: who takes which windows, and where leaves read.
//
// A warp has a tree, a run of windows and a tile of samples, four a lane (two of double). Which rows the leaves read at
// the places of a window is worked out by the lanes side by side and handed around by exchanges: with eight leaves and
// windows of four places, the usual, in one go.
#pragma once

#include "device.cuh"
#include "tree.h"

namespace lgn::cuda {

constexpr int kMaxLeaves = 1 << kMaxTreeDepth;
template <typename T>
constexpr int kTreeVec = sizeof(T) == 8 ? 2 : 4;
constexpr int kMaxRunWindows = 32;

inline int64_t windows_of(const TreeArgs& tree) { return int64_t{tree.out_height} * tree.out_width; }
inline int64_t tree_tiles(Storage storage, int64_t batch) {
  return ceil_div(batch, int64_t{kWarp} * (storage == Storage::kF64 ? 2 : 4));
}
// Windows of a run: as many as leave enough warps, so that a warp reads its tree once for many of them.
inline int64_t run_windows(const TreeArgs& tree, int64_t tiles) {
  const int64_t most = tree.trees * windows_of(tree) * tiles / kBusyWarps;
  return most < 1 ? 1 : (most < kMaxRunWindows ? most : kMaxRunWindows);
}

// Calls body(leaves): 0 where their number is not known to the compiler.
template <typename Body>
void for_leaves(int depth, const Body& body) {
  switch (depth) {
    case 2:
      return body(std::integral_constant<int, 4>{});
    case 3:
      return body(std::integral_constant<int, 8>{});
    case 4:
      return body(std::integral_constant<int, 16>{});
    default:
      return body(std::integral_constant<int, 0>{});
  }
}
// Calls body(T{}, leaves).
template <typename Body>
void for_tree(Storage storage, int depth, const Body& body) {
  const auto sizes = [&](auto element) { for_leaves(depth, [&](auto leaves) { body(element, leaves); }); };
  switch (storage) {
    case Storage::kF32:
      return sizes(float{});
    case Storage::kBF16:
      return sizes(BF16{});
    case Storage::kF16:
      return sizes(F16{});
    case Storage::kF64:
      return body(double{}, std::integral_constant<int, 0>{});
  }
}

// What a warp has to do.
struct TreeTask {
  bool none;
  int lane;
  int32_t tree;
  int64_t tile, run, begin, end;  // windows begin … end - 1

  __device__ TreeTask(const TreeArgs& args, int64_t windows, int64_t tiles, int64_t windows_a_run) {
    const int64_t runs = ceil_div(windows, windows_a_run);
    const int64_t warp = int64_t{blockIdx.x} * kBlockWarps + threadIdx.x / kWarp;
    lane = static_cast<int>(threadIdx.x) % kWarp;
    run = warp % runs;
    tile = warp / runs % tiles;
    tree = static_cast<int32_t>(warp / runs / tiles);
    none = tree >= args.trees;
    begin = run * windows_a_run;
    end = begin + windows_a_run < windows ? begin + windows_a_run : windows;
  }
};
inline int64_t tree_blocks(const TreeArgs& tree, int64_t tiles, int64_t windows_a_run) {
  return ceil_div(tree.trees * ceil_div(windows_of(tree), windows_a_run) * tiles, kBlockWarps);
}

__device__ __forceinline__ TreeUse load_use(const TreeUse* p) {
  const uint4 raw = __ldg(reinterpret_cast<const uint4*>(p));
  return {static_cast<int32_t>(raw.x), static_cast<int32_t>(raw.y), static_cast<int32_t>(raw.z),
          static_cast<int32_t>(raw.w)};
}

// The gates of a warp's tree, from its table to shared memory.
template <typename S>
__device__ __forceinline__ void load_gates(const S* table, int32_t tree, int gates, int lane, Gate<S>* out) {
  for (int j = lane; j < gates; j += kWarp) {
    S entries[4];
    load_table(table, int64_t{tree} * gates + j, entries);
    out[j] = gate_of(entries, false);
  }
}

// Rows that the leaves of a tree read. N is the number of leaves, or 0.
template <int N>
struct LeafRows {
  static constexpr int kGroups = N > 0 ? 1 : kMaxLeaves / kWarp;
  static constexpr int32_t kOutside = -1;

  int lane, leaves, group, groups;                               // leaves of a group share an exchange
  int32_t channel_row[kGroups], line[kGroups], column[kGroups];  // of this lane's leaf of each group
  int32_t row[kGroups];

  __device__ LeafRows(const TreeArgs& args, int32_t tree, int lane_) : lane(lane_) {
    leaves = N > 0 ? N : 1 << args.depth;
    group = leaves < kWarp ? leaves : kWarp;
    groups = N > 0 ? 1 : leaves / group;
    const int64_t plane = int64_t{args.trees} * leaves;
#pragma unroll
    for (int k = 0; k < kGroups; k++) {
      if (k >= groups) break;
      const int32_t* leaf = args.leaves + int64_t{tree} * leaves + k * group + lane % group;
      channel_row[k] = __ldg(leaf) * args.height * args.width;
      line[k] = __ldg(leaf + plane);
      column[k] = __ldg(leaf + 2 * plane);
    }
  }
  // Places of a window that one go works out.
  __device__ __forceinline__ int places() const { return kWarp / group; }
  // Works out the rows at places first, first + 1, … of a window.
  __device__ __forceinline__ void locate(const TreeArgs& args, int32_t window, int32_t first) {
    const int32_t place = first + lane / group, window_line = window / args.out_width,
                  window_column = window - window_line * args.out_width, i = place / args.pool[1],
                  j = place - i * args.pool[1];
    const int32_t top = (window_line * args.pool[0] + i) * args.stride[0] - args.padding[0],
                  left = (window_column * args.pool[1] + j) * args.stride[1] - args.padding[1];
#pragma unroll
    for (int k = 0; k < kGroups; k++) {
      if (k >= groups) break;
      const int32_t y = top + line[k], x = left + column[k];
      const bool inside = y >= 0 && y < args.height && x >= 0 && x < args.width;
      row[k] = inside ? channel_row[k] + y * args.width + x : kOutside;
    }
  }
  // The row of a leaf at place first + k. All lanes take part.
  __device__ __forceinline__ int32_t at(int k, int leaf) const {
    const int32_t mine = N > 0 ? row[0] : row[leaf / kWarp];
    return __shfl_sync(kAllLanes, mine, k * group + leaf % kWarp);
  }
};

}  // namespace lgn::cuda
