// Blocks of samples on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "program.h"

namespace lgn {

// Calls work(next) on up to so many threads; each takes the numbers of blocks from `next` until there are no more.
// Throws std::bad_alloc if one of them failed.
template <class Work>
void on_threads(int64_t samples, int32_t threads, const Work& work) {
  const int64_t blocks = (samples + kBlock - 1) / kBlock;
  const int64_t workers = std::max<int64_t>(1, std::min<int64_t>(threads, blocks));
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  const auto guarded = [&] {
    try {
      work(next);
    } catch (...) {
      failed = true;
    }
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < workers; ++i) {
    try {
      others.emplace_back(guarded);
    } catch (const std::system_error&) {
      break;  // the threads that there are do the work
    }
  }
  guarded();
  for (std::thread& thread : others) thread.join();
  if (failed) throw std::bad_alloc();
}

}  // namespace lgn
