// The inner loops, compiled once for each instruction set.
#pragma once
#include <cstdint>

#include "program.h"

namespace lgn {

struct Kernels {
  // Packs up to 512 rows of bytes: slot t * row + p gets the bits bytes[p] > levels[t]. `scratch` holds scratch_words.
  void (*pack)(const uint8_t* rows, int64_t row, const uint8_t* levels, int64_t num_levels, int samples,
               uint64_t* scratch, uint8_t* slots);
  void (*interpret)(const GroupedProgram& program, uint8_t* slots);
  // Counts the ones of a class: bit d of the count goes to plane d; returns the number of planes.
  int (*count_ones)(const GroupedProgram::ClassSum& sum, const uint8_t* slots, uint8_t* planes);
  // counts[j] = offset + sum of planes << d, for the 512 samples of a block.
  void (*read_planes16)(const uint8_t* const* planes, int num_planes, int16_t offset, int16_t* counts);
  void (*read_planes32)(const uint8_t* const* planes, int num_planes, int32_t offset, int32_t* counts);
  // Index of the highest count of each sample, the first of equals; counts are [classes][512].
  void (*argmax16)(const int16_t* counts, int64_t classes, int32_t* best);
  void (*argmax32)(const int32_t* counts, int64_t classes, int32_t* best);
};

inline int64_t scratch_words(int64_t row) { return (row + 63) / 64 * 520; }

extern const Kernels kGenericKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels, kAvx512Kernels;
#endif

}  // namespace lgn
