// Packed bits as the inputs of a layer's backward pass.
#pragma once

#include "device.cuh"

namespace lgn::cuda {
namespace {

// Inputs as packed bits: a lane's four samples are half a byte.
struct BitInput {
  struct Loaded {
    uint32_t bits;
    static __device__ __forceinline__ Loaded zero() { return {0}; }
    __device__ __forceinline__ void unpack(float (&out)[4]) const {
#pragma unroll
      for (int i = 0; i < 4; i++) out[i] = bit_value(bits, i);
    }
  };
  using Element = float;
  static constexpr int kVec = 4;

  const uint8_t* x;
  int64_t pitch;
  float factor;

  __device__ __forceinline__ Loaded load(int32_t input, int64_t at) const {
    return {static_cast<uint32_t>(x[input * pitch + at / 8]) >> (at % 8)};
  }
  __device__ __forceinline__ Gate<float> scaled(const Gate<float>& gate) const {
    return {gate.c0, factor * gate.c1, factor * gate.c2, factor * gate.c3};
  }
};

}  // namespace
}  // namespace lgn::cuda
