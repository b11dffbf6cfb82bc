// What all kernels are given: rows of samples on a GPU, and a stream.
//
// The interfaces (X.h of a family) lie between the files that bind kernels to torch (X.cpp) and the kernels (X.cu).
// They include no torch header, so that nvcc takes seconds.
//
// Activations are rows of samples: row `f` is feature `f`, `pitch` elements apart, 64-byte aligned and padded to whole
// lines of 64 bytes, padding readable and writable. Lanes past the batch may hold anything; kernels mask them. Kernels
// run on the stream they are given and never wait for the device. Offsets are 64-bit, indices of rows 32-bit.
#pragma once

#include <cstdint>

using cudaStream_t = struct CUstream_st*;

namespace lgn::cuda {

constexpr int64_t kLineBytes = 64;

// What activations are stored as. Tables, sums and gradients of tables are float, or double for kF64.
enum class Storage : int32_t { kF32, kBF16, kF16, kF64 };

}  // namespace lgn::cuda
