// Threads of torch's own OpenMP runtime.
//
// The entry point of libgomp is called by name, which libomp provides too: so one binary works with either, with code
// of any compiler, and never brings a second runtime with a second set of threads.
#pragma once

#include <c10/macros/Export.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

namespace at {
TORCH_API int get_num_threads();
TORCH_API bool in_parallel_region();
}  // namespace at

extern "C" __attribute__((weak)) void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);

namespace lgn {

inline int64_t available_threads() {
  return GOMP_parallel == nullptr || at::in_parallel_region() ? 1 : std::max(at::get_num_threads(), 1);
}

// Calls body(begin, end) on ranges that cover 0 … count-1, at most `grain` long if there are threads to share them. The
// ranges that are asked for do not depend on which thread takes which.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  const int64_t threads = std::min(available_threads(), (count + grain - 1) / grain);
  if (threads <= 1) {
    body(int64_t{0}, count);
    return;
  }
  struct Shared {
    const Body& body;
    int64_t count, grain;
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;
  } shared{body, count, grain, {}, {}, {}};
  GOMP_parallel(
      [](void* data) {
        Shared& s = *static_cast<Shared*>(data);
        try {
          for (;;) {
            const int64_t begin = s.next.fetch_add(s.grain);
            if (begin >= s.count) break;
            s.body(begin, std::min(begin + s.grain, s.count));
          }
        } catch (...) {
          const std::lock_guard<std::mutex> guard(s.mutex);
          s.error = std::current_exception();
        }
      },
      &shared, static_cast<unsigned>(threads), 0);
  if (shared.error) std::rethrow_exception(shared.error);
}

}  // namespace lgn
