// The table of the CPU kernels: the plain C interface between them and the files that bind them to torch.
//
// No torch header comes in here, so that the kernels compile in seconds, once per instruction set, and can be run alone
// under sanitizers. Kernels know nothing of threads: the caller cuts the work into ranges and tiles and calls them.
//
// Of each family X.h is the interface, X_simd.h the kernels and X.cpp the ops.
#pragma once

#include "bit_tree.h"
#include "bits.h"
#include "choices.h"
#include "dense.h"
#include "lut.h"
#include "straight_through.h"
#include "tree.h"

namespace lgn {

// Kernels of one storage type.
struct LayerKernels : DenseKernels {
  TreeKernels tree;
  LutKernels lut;  // not of bf16, which is computed in float
  ChoicesBackward choices;
};

struct Kernels {
  const char* name;
  LayerKernels f32;
  LayerKernels bf16;
  BitKernels bits;
  BitLayerKernels bit_layer;
  BitTreeKernels bit_tree;
  LutBitKernels lut_bits;
  ChoiceKernels choice;
};

// The best set that this processor runs; LGN_CPU_ISA=baseline|avx2|avx512 asks for a lesser one.
const Kernels& kernels();

}  // namespace lgn
