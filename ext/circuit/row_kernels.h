// Comparisons of the columns of a table's rows, compiled once for each instruction set.
#pragma once
#include "program.h"

namespace lgn {

struct RowKernels {
  // Packs up to 512 rows of `size` bytes: slot comparisons[i].input gets the bits of that comparison.
  void (*pack_rows)(const uint8_t* rows, int64_t size, const LgnComparison* comparisons, int64_t count, int samples,
                    uint8_t* slots);
};

extern const RowKernels kGenericRowKernels;
#if defined(__x86_64__)
extern const RowKernels kAvx2RowKernels, kAvx512RowKernels;
#endif

}  // namespace lgn
