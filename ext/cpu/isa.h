// The kernels of each instruction set, each from its own compilation of isa.cpp.
#pragma once

#include "kernels.h"

namespace lgn {

const Kernels& kernels_baseline();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
// double is there for gradient checks and has one build, for any processor.
const LayerKernels& kernels_f64();

}  // namespace lgn
