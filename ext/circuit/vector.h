// The vectors that the kernels compute with: as wide as the instruction set that their file is compiled for.
#pragma once

#include <cstdint>

#include "program.h"

// The name of a table of kernels, such as kAvx2Kernels.
#define LGN_JOIN(set, kind) k##set##kind
#define LGN_NAME(set, kind) LGN_JOIN(set, kind)
#define LGN_OF_SET(kind) LGN_NAME(LGN_SET, kind)

namespace lgn {
namespace {  // another one in each file that is compiled

#if defined(__AVX512F__)
constexpr int kWidth = 64;
#elif defined(__AVX2__)
constexpr int kWidth = 32;
#else
constexpr int kWidth = 16;
#endif

typedef uint64_t Vec __attribute__((vector_size(kWidth), may_alias));
constexpr int kVecs = kSlotBytes / kWidth;

}  // namespace
}  // namespace lgn
