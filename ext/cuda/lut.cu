// Lookup tables of k inputs: interpolated multilinearly, one input after the other, and on packed bits.
//
// The table is a complete binary tree, whose upper half is where the first input is 1. A thread walks it depth first,
// for its samples at once, so that all it holds is a value a level and, of the backward pass, the sums of the entries.
// Nothing is added atomically: a first kernel writes the gradient of every input of every gate, a second lets every
// feature gather its own, in a fixed order. Those are k rows a gate, so a wide batch goes through in slices.
#include <algorithm>

#include "device.cuh"
#include "lut.h"

namespace lgn::cuda {
namespace {

constexpr int kVectorBytes = 16;
template <typename T>
constexpr int kLutVec = sizeof(T) == 8 ? 2 : 4;

// Calls body(inputs), as a constant.
template <typename Body>
void for_inputs(int inputs, const Body& body) {
  switch (inputs) {
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    case 6:
      return body(std::integral_constant<int, 6>{});
  }
}

// Calls body(T{}, inputs).
template <typename Body>
void for_lut(const LutArgs& layer, const Body& body) {
  for_inputs(layer.inputs, [&](auto inputs) {
    switch (layer.storage) {
      case Storage::kF32:
        return body(float{}, inputs);
      case Storage::kBF16:
        return body(BF16{}, inputs);
      case Storage::kF16:
        return body(F16{}, inputs);
      case Storage::kF64:
        return body(double{}, inputs);
    }
  });
}

// The value of a subtree of L inputs, whose entries start at number 4 · `four` of the table.
template <int L, int V, typename S>
__device__ __forceinline__ void interpolate(const S* table, int64_t four, const S (*x)[V], S (&out)[V]) {
  if constexpr (L == 2) {
    S entry[4];
    load_table(table, four, entry);
#pragma unroll
    for (int i = 0; i < V; i++) {
      const S low = entry[0] + x[1][i] * (entry[1] - entry[0]), high = entry[2] + x[1][i] * (entry[3] - entry[2]);
      out[i] = low + x[0][i] * (high - low);
    }
  } else {
    S low[V], high[V];
    interpolate<L - 1>(table, four, x + 1, low);
    interpolate<L - 1>(table, four + (1 << (L - 3)), x + 1, high);
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = low[i] + x[0][i] * (high[i] - low[i]);
  }
}

// The same, from the gradient of the value to those of the inputs and of the entries, which are added to. Of one input,
// `table` is at its two entries, read by the level above.
template <int L, int V, typename S>
__device__ __forceinline__ void differentiate(const S* table, int64_t four, const S (*x)[V], const S (&grad)[V],
                                              S (*grad_x)[V], S* sums, S (&out)[V]) {
  S low[V], high[V], to_low[V], to_high[V];
#pragma unroll
  for (int i = 0; i < V; i++) {
    to_high[i] = grad[i] * x[0][i];
    to_low[i] = grad[i] - to_high[i];
  }
  if constexpr (L == 1) {
#pragma unroll
    for (int i = 0; i < V; i++) {
      low[i] = table[0];
      high[i] = table[1];
      sums[0] += to_low[i];
      sums[1] += to_high[i];
    }
  } else if constexpr (L == 2) {
    S entry[4];
    load_table(table, four, entry);
    differentiate<1>(entry, 0, x + 1, to_low, grad_x + 1, sums, low);
    differentiate<1>(entry + 2, 0, x + 1, to_high, grad_x + 1, sums + 2, high);
  } else {
    differentiate<L - 1>(table, four, x + 1, to_low, grad_x + 1, sums, low);
    differentiate<L - 1>(table, four + (1 << (L - 3)), x + 1, to_high, grad_x + 1, sums + (1 << (L - 1)), high);
  }
#pragma unroll
  for (int i = 0; i < V; i++) {
    const S slope = high[i] - low[i];
    grad_x[0][i] += grad[i] * slope;
    out[i] = low[i] + x[0][i] * slope;
  }
}

// `lanes` neighbouring threads have a gate and a tile of as many vectors of samples.
template <typename T, int K>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ x, int64_t x_pitch, const SumOf<T>* __restrict__ table,
                   const int32_t* __restrict__ indices, int64_t gates, int64_t vectors, int lanes, int64_t tiles,
                   T* __restrict__ y, int64_t y_pitch) {
  constexpr int V = kLutVec<T>;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, gate = thread / lanes / tiles;
  const int64_t vector = thread / lanes % tiles * lanes + thread % lanes;
  if (gate >= gates || vector >= vectors) return;
  SumOf<T> in[K][V], out[V];
#pragma unroll
  for (int k = 0; k < K; k++) {
    Samples<T, V>::load(x + __ldg(indices + k * gates + gate) * x_pitch + vector * V).unpack(in[k]);
  }
  interpolate<K>(table, gate << (K - 2), in, out);
  Samples<T, V>::store(y + gate * y_pitch + vector * V, out);
}

// Up to eight warps share a gate, each with every so many-th tile of samples. `more` slices have been added before.
template <typename T, int K>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* __restrict__ x, int64_t x_pitch, const SumOf<T>* __restrict__ table,
                    const int32_t* __restrict__ indices, int64_t gates, int64_t batch, int warps, int64_t tiles,
                    const T* __restrict__ grad, int64_t grad_pitch, SumOf<T>* __restrict__ grad_table, bool more,
                    SumOf<T>* __restrict__ parts, int64_t part_pitch) {
  using S = SumOf<T>;
  using Row = Samples<T, kLutVec<T>>;
  constexpr int V = kLutVec<T>, kEntries = 1 << K;
  __shared__ S shared[kBlockWarps][kEntries];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int slot = warp / warps, part = warp % warps;
  const int64_t gate = int64_t{blockIdx.x} * (kBlockWarps / warps) + slot;
  // The same for all lanes of a warp, as the exchanges below need.
  if (gate < gates) {
    S sums[kEntries] = {};
    const T* row[K];
#pragma unroll
    for (int k = 0; k < K; k++) row[k] = x + __ldg(indices + k * gates + gate) * x_pitch;
    for (int64_t tile = part; tile < tiles; tile += warps) {
      const int64_t at = first_sample(tile, lane, V);
      if (at >= batch) break;
      S in[K][V], g[V], down[K][V] = {}, value[V];
#pragma unroll
      for (int k = 0; k < K; k++) Row::load(row[k] + at).unpack(in[k]);
      Row::load(grad + gate * grad_pitch + at).unpack(g);
#pragma unroll
      for (int i = 0; i < V; i++) {
        if (at + i < batch) continue;
        g[i] = 0;  // padding may hold NaN
#pragma unroll
        for (int k = 0; k < K; k++) in[k][i] = 0;
      }
      differentiate<K>(table, gate << (K - 2), in, g, down, sums, value);
      if (parts == nullptr) continue;
#pragma unroll
      for (int k = 0; k < K; k++) store_sums(parts + (k * gates + gate) * part_pitch + at, down[k], V);
    }
#pragma unroll
    for (int e = 0; e < kEntries; e += 4) {
      const S four[4] = {sums[e], sums[e + 1], sums[e + 2], sums[e + 3]};
      const S sum = sum_four(four, lane);
      if (lane % 8 == 0) shared[warp][e + lane / 8] = sum;
    }
  }
  __syncthreads();
  if (gate >= gates) return;
  // Warps of a gate add up in their order.
  for (int e = part * kWarp + lane; e < kEntries; e += warps * kWarp) {
    S* to = grad_table + gate * kEntries + e;
    S sum = more ? *to : S{0};
    for (int w = 0; w < warps; w++) sum += shared[slot * warps + w][e];
    *to = sum;
  }
}

// `lanes` neighbouring threads have a feature and a tile of as many vectors of samples.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const SumOf<T>* __restrict__ parts, int64_t part_pitch, const int32_t* __restrict__ uses,
                  const int32_t* __restrict__ uses_begin, int64_t features, int64_t vectors, int lanes, int64_t tiles,
                  T* __restrict__ grad_x, int64_t grad_x_pitch) {
  using S = SumOf<T>;
  constexpr int V = kLutVec<T>;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, feature = thread / lanes / tiles;
  const int64_t vector = thread / lanes % tiles * lanes + thread % lanes;
  if (feature >= features || vector >= vectors) return;
  const int32_t last = __ldg(uses_begin + feature + 1);
  S sum[V] = {};
#pragma unroll 4
  for (int32_t use = __ldg(uses_begin + feature); use < last; use++) {
    S part[V];
    Samples<S, V>::load(parts + __ldg(uses + use) * part_pitch + vector * V).unpack(part);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] += part[i];
  }
  Samples<T, V>::store(grad_x + feature * grad_x_pitch + vector * V, sum);
}

template <typename T, int K>
void backward(const LutArgs& layer, const LutGradientArgs& to, cudaStream_t stream) {
  using S = SumOf<T>;
  constexpr int V = kLutVec<T>;
  for (int64_t first = 0; first < layer.batch; first += to.samples) {
    const int64_t batch = std::min(to.samples, layer.batch - first);
    const Tiles tiles = tiles_of(batch, V);
    auto* parts = to.grad_x == nullptr ? nullptr : static_cast<S*>(to.parts);
    launch(&backward_kernel<T, K>, ceil_div(layer.gates, kBlockWarps / tiles.warps), stream,
           static_cast<const T*>(layer.x) + first, layer.x_pitch, static_cast<const S*>(layer.table), layer.indices,
           layer.gates, batch, tiles.warps, tiles.count, static_cast<const T*>(to.grad) + first, to.grad_pitch,
           static_cast<S*>(to.grad_table), first > 0, parts, to.samples);
    if (parts == nullptr) continue;
    const int64_t vectors = ceil_div(batch, V);
    const int lanes = lanes_of(vectors);
    const int64_t runs = ceil_div(vectors, lanes);
    launch(&gather_kernel<T>, ceil_div(to.features * runs * lanes, kThreads), stream, static_cast<const S*>(parts),
           to.samples, to.uses, to.uses_begin, to.features, vectors, lanes, runs, static_cast<T*>(to.grad_x) + first,
           to.grad_x_pitch);
  }
}

// The gate on 32 samples; `id` has the entries of this subtree as its lowest 2^L bits.
template <int L>
__device__ __forceinline__ uint32_t look_up(uint64_t id, const uint32_t* x) {
  if constexpr (L == 0) {
    return 0u - static_cast<uint32_t>(id & 1);
  } else {
    const uint32_t low = look_up<L - 1>(id >> (1 << (L - 1)), x + 1), high = look_up<L - 1>(id, x + 1);
    return low ^ (x[0] & (low ^ high));
  }
}

template <int K>
__global__ void __launch_bounds__(kThreads)
    packed_kernel(const uint8_t* __restrict__ x, int64_t x_pitch, const int64_t* __restrict__ ids,
                  const int32_t* __restrict__ indices, int64_t gates, int64_t vectors, int lanes,
                  uint8_t* __restrict__ y, int64_t y_pitch) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, gate = thread / lanes;
  if (gate >= gates) return;
  const auto id = static_cast<uint64_t>(__ldg(ids + gate));
  const uint8_t* row[K];
#pragma unroll
  for (int k = 0; k < K; k++) row[k] = x + __ldg(indices + k * gates + gate) * x_pitch;
  for (int64_t vector = thread % lanes; vector < vectors; vector += lanes) {
    uint32_t in[4][K], out[4];
#pragma unroll
    for (int k = 0; k < K; k++) {
      const uint4 raw = *reinterpret_cast<const uint4*>(row[k] + vector * kVectorBytes);
      in[0][k] = raw.x, in[1][k] = raw.y, in[2][k] = raw.z, in[3][k] = raw.w;
    }
#pragma unroll
    for (int w = 0; w < 4; w++) out[w] = look_up<K>(id, in[w]);
    *reinterpret_cast<uint4*>(y + gate * y_pitch + vector * kVectorBytes) = {out[0], out[1], out[2], out[3]};
  }
}

__global__ void __launch_bounds__(kThreads)
    ids_kernel(const float* __restrict__ logits, int64_t gates, int64_t entries, int64_t* __restrict__ ids) {
  const int64_t gate = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (gate >= gates) return;
  uint64_t id = 0;
  for (int64_t e = 0; e < entries; e++) id = id << 1 | (__ldg(logits + gate * entries + e) > 0 ? 1 : 0);
  ids[gate] = static_cast<int64_t>(id);
}

}  // namespace

int64_t lut_slice(const LutArgs& layer, int64_t part_bytes) {
  const bool wide = layer.storage == Storage::kF64;
  const int64_t tile = kWarp * (wide ? 2 : 4), tiles = std::max<int64_t>(ceil_div(layer.batch, tile), 1),
                bytes = std::max<int64_t>(layer.inputs * layer.gates * tile * (wide ? 8 : 4), 1);
  return std::clamp<int64_t>(part_bytes / bytes, 1, tiles) * tile;
}

void lut_forward(const LutArgs& layer, void* y, int64_t y_pitch, cudaStream_t stream) {
  for_lut(layer, [&](auto element, auto inputs) {
    using T = decltype(element);
    const int64_t vectors = ceil_div(layer.batch, kLutVec<T>);
    const int lanes = lanes_of(vectors);
    const int64_t tiles = ceil_div(vectors, lanes);
    launch(&forward_kernel<T, decltype(inputs)::value>, ceil_div(layer.gates * tiles * lanes, kThreads), stream,
           static_cast<const T*>(layer.x), layer.x_pitch, static_cast<const SumOf<T>*>(layer.table), layer.indices,
           layer.gates, vectors, lanes, tiles, static_cast<T*>(y), y_pitch);
  });
}

void lut_backward(const LutArgs& layer, const LutGradientArgs& gradient, cudaStream_t stream) {
  for_lut(layer, [&](auto element, auto inputs) {
    backward<decltype(element), decltype(inputs)::value>(layer, gradient, stream);
  });
}

void lut_packed(const uint8_t* x, int64_t x_pitch, const int64_t* ids, const int32_t* indices, int32_t inputs,
                int64_t gates, int64_t row_bytes, uint8_t* y, int64_t y_pitch, cudaStream_t stream) {
  const int64_t vectors = ceil_div(row_bytes, kVectorBytes);
  const int lanes = lanes_of(vectors);
  for_inputs(inputs, [&](auto count) {
    launch(&packed_kernel<decltype(count)::value>, ceil_div(gates * lanes, kThreads), stream, x, x_pitch, ids, indices,
           gates, vectors, lanes, y, y_pitch);
  });
}

void lut_ids(const float* logits, int64_t gates, int64_t entries, int64_t* ids, cudaStream_t stream) {
  launch(&ids_kernel, ceil_div(gates, kThreads), stream, logits, gates, entries, ids);
}

}  // namespace lgn::cuda
