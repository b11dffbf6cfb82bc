// What the kernels of a layer share that go from gate to gate: a step's coefficients, prefetching, code by batch size.
#pragma once

#include <type_traits>

#include "simd.h"

namespace lgn {
namespace {

// Steps that a row is asked for ahead of its use.
constexpr int64_t kAhead = 8;
// The same of rows in random order that lie in no cache: first into the second-level one, which waits for more lines at
// once than the first-level one.
constexpr int64_t kNear = 4, kFar = 24;

template <typename T>
struct Coefficients {
  T c0, ci, cj, cij;
};

// The table's entries are t00, t01, t10, t11 with the first input as the first digit.
template <typename T>
LGN_INLINE Coefficients<T> coefficients(const T* table, const Step& step) {
  const T* t = table + 4 * static_cast<int64_t>(step.gate);
  const int swap = static_cast<int>(step.flags & kSwap);
  const T ti = t[2 - swap], tj = t[1 + swap];  // entries where only i is 1, where only j is 1
  return {t[0], ti - t[0], tj - t[0], t[3] - ti - tj + t[0]};
}

LGN_INLINE void prefetch_read(const char* p, int lines) {
  for (int k = 0; k < lines; k++) __builtin_prefetch(p + k * kLineBytes, 0);
}
LGN_INLINE void prefetch_far(const char* p, int lines) {
  for (int k = 0; k < lines; k++) __builtin_prefetch(p + k * kLineBytes, 0, 2);
}
LGN_INLINE void prefetch_write(const char* p, int lines) {
  for (int k = 0; k < lines; k++) __builtin_prefetch(p + k * kLineBytes, 1);
}

// Calls `call` with the number of lines as a constant where it has code of its own, for batches of 64, 100 and 128
// floats or 128 halves, and else with 0, which stands for a number known at run time only. The plain build has no
// other.
template <typename S, typename Call>
LGN_INLINE void for_lines(int lines, const Call& call) {
  if constexpr (kVectorBytes > 16) {
    if (lines == 4) return call(std::integral_constant<int, 4>{});
    if constexpr (Storage<S>::kParts == 1) {
      if (lines == 7) return call(std::integral_constant<int, 7>{});
      if (lines == 8) return call(std::integral_constant<int, 8>{});
    }
  }
  call(std::integral_constant<int, 0>{});
}

}  // namespace
}  // namespace lgn
