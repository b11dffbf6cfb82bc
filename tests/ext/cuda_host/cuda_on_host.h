// Runs CUDA kernels on the host, so that their arithmetic and indexing are tested where no GPU is.
//
// The threads of a block are fibers that take turns; barriers and warp exchanges are the points where they switch.
// Blocks run one after another. What this cannot show is races between barriers, and speed.
#pragma once

#define LGN_CUDA_ON_HOST
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};

namespace cuda_on_host {

constexpr int kWarp = 32;
constexpr int kBlock = 256;
constexpr size_t kStack = 64 * 1024;

struct Barrier {
  int arrived = 0;
  int64_t generation = 0;
};
struct Index {
  unsigned x = 0;
};

inline Index thread_index, block_index;

struct Block {
  ucontext_t scheduler;
  ucontext_t fibers[kBlock];
  std::unique_ptr<char[]> stacks{new char[kStack * kBlock]};
  bool done[kBlock];
  int exited_of_warp[kBlock / kWarp];
  Barrier whole, warps[kBlock / kWarp];
  uint64_t exchange[2][kBlock];
  int parity[kBlock];
  int exited;
  std::function<void()> body;
};
inline Block block;

inline int me() { return static_cast<int>(thread_index.x); }
inline void pause() { swapcontext(&block.fibers[me()], &block.scheduler); }

// Waits for all of `size` threads; threads that have returned no longer count, as on a device of Volta and later.
inline void wait(Barrier& barrier, int size, const int& exited) {
  const int64_t generation = barrier.generation;
  barrier.arrived++;
  while (barrier.generation == generation) {
    if (barrier.arrived + exited >= size) {
      barrier.arrived = 0;
      barrier.generation++;
    } else {
      pause();
    }
  }
}

inline void fiber() {
  block.body();
  block.done[me()] = true;
  block.exited++;
  block.exited_of_warp[me() / kWarp]++;
  swapcontext(&block.fibers[me()], &block.scheduler);
}

inline void run_block(unsigned index) {
  block_index.x = index;
  block.exited = 0;
  block.whole = {};
  for (int w = 0; w < kBlock / kWarp; w++) {
    block.warps[w] = {};
    block.exited_of_warp[w] = 0;
  }
  for (int t = 0; t < kBlock; t++) {
    block.done[t] = false;
    block.parity[t] = 0;
    getcontext(&block.fibers[t]);
    block.fibers[t].uc_stack = {block.stacks.get() + kStack * static_cast<size_t>(t), 0, kStack};
    block.fibers[t].uc_link = nullptr;
    makecontext(&block.fibers[t], &fiber, 0);
  }
  while (block.exited < kBlock) {
    for (int t = 0; t < kBlock; t++) {
      if (block.done[t]) continue;
      thread_index.x = static_cast<unsigned>(t);
      swapcontext(&block.scheduler, &block.fibers[t]);
    }
  }
}

}  // namespace cuda_on_host

#define threadIdx (cuda_on_host::thread_index)
#define blockIdx (cuda_on_host::block_index)

inline void __syncthreads() {
  cuda_on_host::wait(cuda_on_host::block.whole, cuda_on_host::kBlock, cuda_on_host::block.exited);
}
inline void __syncwarp() {
  const int warp = cuda_on_host::me() / cuda_on_host::kWarp;
  cuda_on_host::wait(cuda_on_host::block.warps[warp], cuda_on_host::kWarp, cuda_on_host::block.exited_of_warp[warp]);
}

// The value that lane `source` of the warp passes.
template <typename V>
V __shfl_sync(unsigned mask, V value, int source) {
  using namespace cuda_on_host;
  const int warp = me() / kWarp;
  if (mask != 0xffffffffu || block.exited_of_warp[warp] > 0) {
    std::fprintf(stderr, "an exchange that not all lanes of the warp take part in\n");
    std::abort();
  }
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(V));
  const int parity = block.parity[me()];
  block.parity[me()] ^= 1;
  block.exchange[parity][me()] = bits;
  __syncwarp();
  std::memcpy(&value, &block.exchange[parity][warp * kWarp + source % kWarp], sizeof(V));
  return value;
}
template <typename V>
V __shfl_xor_sync(unsigned mask, V value, int distance) {
  return __shfl_sync(mask, value, cuda_on_host::me() % cuda_on_host::kWarp ^ distance);
}

template <typename V>
V __ldg(const V* p) {
  return *p;
}
inline int32_t atomicAdd(int32_t* to, int32_t value) {
  const int32_t old = *to;
  *to += value;
  return old;
}

using cudaStream_t = struct CUstream_st*;

namespace lgn::cuda {
template <typename... P, typename... A>
void launch(void (*kernel)(P...), int64_t blocks, cudaStream_t, A... args) {
  cuda_on_host::block.body = [=] { kernel(static_cast<P>(args)...); };
  for (int64_t i = 0; i < blocks; i++) cuda_on_host::run_block(static_cast<unsigned>(i));
}
}  // namespace lgn::cuda
