// A caching allocator for activations.
#pragma once

#include <cstdint>

namespace lgn {

// Gives 64-byte aligned memory, a block that was given back if one has the right size. Fresh activations at every step
// cost a third of the step in page faults; large blocks also ask for huge pages, which random rows need. The pool
// holds at most a quarter more than was in use at once. Safe from several threads and after a fork. Throws
// std::bad_alloc.
void* pool_get(int64_t bytes);
void pool_put(void* block);

struct PoolUse {
  int64_t live;
  int64_t cached;
  int64_t peak;
};
PoolUse pool_use();

}  // namespace lgn
