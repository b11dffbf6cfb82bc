// Runs CUDA kernels on the host, so that their arithmetic and indexing are tested where no GPU is.
//
// The threads of a block are fibers that take turns, in an order that changes at every turn; barriers and warp
// exchanges are the points where they switch. Blocks run one after another, in any order. ThreadSanitizer takes the
// fibers for threads and finds races within a block (test_cuda_races.py). What this cannot show is speed.
#pragma once

#define LGN_CUDA_ON_HOST
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
// For what stands in for the device itself.
#define LGN_DEVICE __attribute__((no_sanitize("thread")))
#else
#define LGN_DEVICE
#endif

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

using Runner = void*;
// A fiber or the scheduler, where it gave its turn away.
struct Context {
  ucontext_t start;
  jmp_buf paused;
  bool started = false;
};
// What ThreadSanitizer is told: who runs, and what a thread has seen of the others.
#if defined(__SANITIZE_THREAD__)
inline Runner current_runner() { return __tsan_get_current_fiber(); }
inline Runner new_runner() { return __tsan_create_fiber(0); }
inline void switch_to(Runner runner) { __tsan_switch_to_fiber(runner, __tsan_switch_to_fiber_no_sync); }
inline void publish(char* event) { __tsan_release(event); }
inline void observe(char* event) { __tsan_acquire(event); }
// It follows swapcontext alone, which asks the kernel for the signal mask each time.
inline void give_turn(Context& from, Context& to) { swapcontext(&from.start, &to.start); }
#else
inline Runner current_runner() { return nullptr; }
inline Runner new_runner() { return nullptr; }
inline void switch_to(Runner) {}
inline void publish(char*) {}
inline void observe(char*) {}
inline void give_turn(Context& from, Context& to) {
  if (_setjmp(from.paused) != 0) return;
  from.started = true;
  if (to.started) _longjmp(to.paused, 1);
  setcontext(&to.start);
}
#endif

struct Barrier {
  int arrived = 0;
  int64_t generation = 0;
  char passed[2];  // the event of even and of odd generations
};
struct Index {
  unsigned x = 0;
};

inline Index thread_index, block_index;

struct Block {
  Context scheduler, fibers[kBlock];
  Runner scheduling, runners[kBlock] = {};
  std::unique_ptr<char[]> stacks{new char[kStack * kBlock]};
  bool made[kBlock] = {}, done[kBlock];
  int exited_of_warp[kBlock / kWarp];
  Barrier whole, warps[kBlock / kWarp];
  uint64_t exchange[2][kBlock];
  int parity[kBlock];
  int exited;
  char begun, ended;
  std::function<void()> body;
};
inline Block block;

// The numbers 0 … count - 1 in another order at each call.
LGN_DEVICE inline std::vector<int> any_order(int64_t count) {
  static uint32_t state = 1;
  std::vector<int> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = count - 1; i > 0; i--) {
    state = state * 1664525u + 1013904223u;
    std::swap(order[static_cast<size_t>(i)], order[uint64_t{state} * static_cast<uint64_t>(i + 1) >> 32]);
  }
  return order;
}

LGN_DEVICE inline int me() { return static_cast<int>(thread_index.x); }
LGN_DEVICE inline void pause() {
  switch_to(block.scheduling);
  give_turn(block.fibers[me()], block.scheduler);
}

// Waits for all of `size` threads; threads that have returned no longer count, as on a device of Volta and later.
LGN_DEVICE inline void wait(Barrier& barrier, int size, const int& exited) {
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
// The same, and each sees what the others have written.
LGN_DEVICE inline void synchronize(Barrier& barrier, int size, const int& exited) {
  char* passed = &barrier.passed[barrier.generation % 2];
  publish(passed);
  wait(barrier, size, exited);
  observe(passed);
}

// Runs a thread of one block after another: as many fibers serve all blocks.
LGN_DEVICE inline void fiber() {
  for (;;) {
    observe(&block.begun);
    block.body();
    publish(&block.ended);
    block.done[me()] = true;
    block.exited++;
    block.exited_of_warp[me() / kWarp]++;
    pause();
  }
}
LGN_DEVICE inline void make_fiber(int t) {
  ucontext_t& start = block.fibers[t].start;
  getcontext(&start);
  start.uc_stack = {block.stacks.get() + kStack * static_cast<size_t>(t), 0, kStack};
  start.uc_link = nullptr;
  makecontext(&start, &fiber, 0);
  block.runners[t] = new_runner();
  block.made[t] = true;
}

LGN_DEVICE inline void run_block(unsigned index) {
  block_index.x = index;
  block.exited = 0;
  block.whole = {};
  block.scheduling = current_runner();
  for (int w = 0; w < kBlock / kWarp; w++) {
    block.warps[w] = {};
    block.exited_of_warp[w] = 0;
  }
  for (int t = 0; t < kBlock; t++) {
    block.done[t] = false;
    block.parity[t] = 0;
    if (!block.made[t]) make_fiber(t);
  }
  publish(&block.begun);
  while (block.exited < kBlock) {
    for (const int t : any_order(kBlock)) {
      if (block.done[t]) continue;
      thread_index.x = static_cast<unsigned>(t);
      switch_to(block.runners[t]);
      give_turn(block.scheduler, block.fibers[t]);
    }
  }
  observe(&block.ended);
}

}  // namespace cuda_on_host

#define threadIdx (cuda_on_host::thread_index)
#define blockIdx (cuda_on_host::block_index)

LGN_DEVICE inline void __syncthreads() {
  cuda_on_host::synchronize(cuda_on_host::block.whole, cuda_on_host::kBlock, cuda_on_host::block.exited);
}
LGN_DEVICE inline void __syncwarp() {
  const int warp = cuda_on_host::me() / cuda_on_host::kWarp;
  cuda_on_host::synchronize(cuda_on_host::block.warps[warp], cuda_on_host::kWarp,
                            cuda_on_host::block.exited_of_warp[warp]);
}

// The value that lane `source` of the warp passes. An exchange orders no memory.
template <typename V>
LGN_DEVICE V __shfl_sync(unsigned mask, V value, int source) {
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
  wait(block.warps[warp], kWarp, block.exited_of_warp[warp]);
  std::memcpy(&value, &block.exchange[parity][warp * kWarp + source % kWarp], sizeof(V));
  return value;
}
template <typename V>
LGN_DEVICE V __shfl_xor_sync(unsigned mask, V value, int distance) {
  return __shfl_sync(mask, value, cuda_on_host::me() % cuda_on_host::kWarp ^ distance);
}

template <typename V>
V __ldg(const V* p) {
  return *p;
}
inline int32_t atomicAdd(int32_t* to, int32_t value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }

using cudaStream_t = struct CUstream_st*;

namespace lgn::cuda {
template <typename... P, typename... A>
void launch(void (*kernel)(P...), int64_t blocks, cudaStream_t, A... args) {
  cuda_on_host::block.body = [=] { kernel(static_cast<P>(args)...); };
  for (const int i : cuda_on_host::any_order(blocks)) cuda_on_host::run_block(static_cast<unsigned>(i));
}
}  // namespace lgn::cuda
