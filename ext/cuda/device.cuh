// Launches, vectors of samples and sums over a warp. tests/ext/cuda_host provides the same names on the host.
#pragma once

#include <type_traits>

#include "grid.h"
#include "rows.h"

#if !defined(LGN_CUDA_ON_HOST)
#include <cuda_runtime.h>

namespace lgn::cuda {
template <typename... P, typename... A>
void launch(void (*kernel)(P...), int64_t blocks, cudaStream_t stream, A... args) {
  if (blocks > 0) kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(static_cast<P>(args)...);
}
}  // namespace lgn::cuda
#endif

namespace lgn::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
using UnsignedOf = std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;

// Raw bits of a vector, moved in one instruction.
template <int Bytes>
using Bits = std::conditional_t<Bytes == 16, uint4, uint2>;

// V neighbouring samples of a row.
template <typename T, int V>
struct Samples {
  static_assert(sizeof(T) * V == 8 || sizeof(T) * V == 16);
  using Raw = Bits<static_cast<int>(sizeof(T)) * V>;
  using S = SumOf<T>;

  Raw raw;

  static __device__ __forceinline__ Samples zero() {
    Samples made;
    memset(&made.raw, 0, sizeof(Raw));
    return made;
  }
  static __device__ __forceinline__ Samples load(const T* p) { return {*reinterpret_cast<const Raw*>(p)}; }
  __device__ __forceinline__ void unpack(S (&out)[V]) const {
    T values[V];
    memcpy(values, &raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = widen(values[i]);
  }
  __device__ __forceinline__ S get(int i) const {
    T values[V];
    memcpy(values, &raw, sizeof(raw));
    return widen(values[i]);
  }
  // All bits of sample i where bit i is set.
  static __device__ __forceinline__ Samples mask(uint32_t set) {
    UnsignedOf<T> values[V];
#pragma unroll
    for (int i = 0; i < V; i++) values[i] = static_cast<UnsignedOf<T>>(UnsignedOf<T>{0} - (set >> i & 1));
    Samples made;
    memcpy(&made.raw, values, sizeof(values));
    return made;
  }
  // Replaces the samples of a mask.
  __device__ __forceinline__ void take(const Samples& mask, const Samples& from) {
    constexpr int kWords = static_cast<int>(sizeof(Raw)) / 4;
    uint32_t mine[kWords], bits[kWords], other[kWords];
    memcpy(mine, &raw, sizeof(raw));
    memcpy(bits, &mask.raw, sizeof(raw));
    memcpy(other, &from.raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < kWords; i++) mine[i] = (mine[i] & ~bits[i]) | (other[i] & bits[i]);
    memcpy(&raw, mine, sizeof(raw));
  }
  static __device__ __forceinline__ void store(T* p, const S (&in)[V]) {
    T values[V];
#pragma unroll
    for (int i = 0; i < V; i++) narrow(in[i], values[i]);
    Raw raw;
    memcpy(&raw, values, sizeof(raw));
    *reinterpret_cast<Raw*>(p) = raw;
  }
};

template <typename S>
__device__ __forceinline__ void store_sums(S* p, const S* in, int count) {
  constexpr int kStep = 16 / sizeof(S);
#pragma unroll
  for (int i = 0; i < count; i += kStep) {
    uint4 raw;
    memcpy(&raw, in + i, sizeof(raw));
    *reinterpret_cast<uint4*>(p + i) = raw;
  }
}

// Two or four bytes in one instruction.
template <int V>
__device__ __forceinline__ void load_bytes(const uint8_t* p, uint8_t (&out)[V]) {
  const auto raw = *reinterpret_cast<const std::conditional_t<V == 4, uint32_t, uint16_t>*>(p);
  static_assert(sizeof(raw) == V);
  memcpy(out, &raw, V);
}
template <int V>
__device__ __forceinline__ void store_bytes(uint8_t* p, const uint8_t (&in)[V]) {
  std::conditional_t<V == 4, uint32_t, uint16_t> raw;
  static_assert(sizeof(raw) == V);
  memcpy(&raw, in, V);
  *reinterpret_cast<decltype(raw)*>(p) = raw;
}

template <typename S>
__device__ __forceinline__ void load_table(const S* table, int64_t gate, S (&out)[4]) {
  const uint4* from = reinterpret_cast<const uint4*>(table + gate * 4);
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(S)) / 4; i++) {
    const uint4 raw = __ldg(from + i);
    memcpy(reinterpret_cast<char*>(out) + 16 * i, &raw, sizeof(raw));
  }
}

// Sums four numbers over a warp in 6 exchanges instead of 20: lane l gets the sum of number l / 8.
template <typename S>
__device__ __forceinline__ S sum_four(const S (&v)[4], int lane) {
  const bool upper = lane & 16, odd = lane & 8;
  S first = upper ? v[2] : v[0], second = upper ? v[3] : v[1];
  first += __shfl_xor_sync(kAllLanes, upper ? v[0] : v[2], 16);
  second += __shfl_xor_sync(kAllLanes, upper ? v[1] : v[3], 16);
  S sum = odd ? second : first;
  sum += __shfl_xor_sync(kAllLanes, odd ? first : second, 8);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  return sum;
}

// Calls body(T{}, vector width) for a storage type: 16-byte vectors, or 8 bytes where a batch in two-byte elements
// would leave more than half of a warp idle.
template <typename Body>
void for_storage(Storage storage, int64_t batch, const Body& body) {
  const bool narrow_batch = batch <= 4 * kWarp;
  const auto halves = [&](auto element) {
    if (narrow_batch) {
      body(element, std::integral_constant<int, 4>{});
    } else {
      body(element, std::integral_constant<int, 8>{});
    }
  };
  switch (storage) {
    case Storage::kF32:
      return body(float{}, std::integral_constant<int, 4>{});
    case Storage::kF64:
      return body(double{}, std::integral_constant<int, 2>{});
    case Storage::kBF16:
      return halves(BF16{});
    case Storage::kF16:
      return halves(F16{});
  }
}

}  // namespace lgn::cuda
