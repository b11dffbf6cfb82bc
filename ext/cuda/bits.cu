// Packed bits: 128 samples a thread where a row has them, whatever the width of the words that the caller sees.
#include "bits.h"
#include "device.cuh"

namespace lgn::cuda {
namespace {

constexpr int kVectorBytes = 16;
constexpr int kVectorSamples = 8 * kVectorBytes;

// Four samples of one feature, 0 or 1 each in a byte, to the low four bits.
__device__ __forceinline__ uint32_t gather_bytes(uint32_t four) { return (four & 0x01010101u) * 0x01020408u >> 24; }

// Features run along threads, so that the usual row-major batch is read in whole lines; feature-major samples are read
// four at a time.
__global__ void __launch_bounds__(kThreads)
    pack_kernel(const uint8_t* __restrict__ x, int64_t sample_stride, int64_t feature_stride, int64_t batch,
                int64_t features, bool by_word, uint8_t* __restrict__ out, int64_t pitch) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t feature = thread % features, begin = thread / features * kVectorSamples;
  if (begin >= batch) return;
  const uint8_t* from = x + feature * feature_stride + begin * sample_stride;
  const int64_t left = batch - begin;
  uint32_t words[4] = {};
#pragma unroll
  for (int w = 0; w < 4; w++) {
    if (by_word && left >= (w + 1) * 32) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        words[w] |= gather_bytes(*reinterpret_cast<const uint32_t*>(from + w * 32 + i * 4)) << (i * 4);
      }
    } else {
#pragma unroll 8
      for (int i = 0; i < 32; i++) {
        const int64_t sample = w * 32 + i;
        if (sample < left) words[w] |= uint32_t{from[sample * sample_stride] != 0} << i;
      }
    }
  }
  uint4 raw;
  memcpy(&raw, words, sizeof(raw));
  *reinterpret_cast<uint4*>(out + feature * pitch + begin / 8) = raw;
}

__global__ void __launch_bounds__(kThreads) unpack_kernel(const uint8_t* __restrict__ x, int64_t pitch, int64_t batch,
                                                          int64_t features, uint8_t* __restrict__ out) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t feature = thread % features, begin = thread / features * 32;
  if (begin >= batch) return;
  const uint32_t word = *reinterpret_cast<const uint32_t*>(x + feature * pitch + begin / 8);
  const int count = batch - begin < 32 ? static_cast<int>(batch - begin) : 32;
  for (int i = 0; i < count; i++) out[(begin + i) * features + feature] = static_cast<uint8_t>(word >> i & 1);
}

__global__ void __launch_bounds__(kThreads)
    logic_kernel(const uint8_t* __restrict__ x, int64_t x_pitch, const uint8_t* __restrict__ gates,
                 const int32_t* __restrict__ a, const int32_t* __restrict__ b, int64_t gate_count, int64_t vectors,
                 int lanes, uint8_t* __restrict__ y, int64_t y_pitch) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, gate = thread / lanes;
  if (gate >= gate_count) return;
  const BitGate of = bit_gate_of(__ldg(gates + gate));
  const uint8_t* left = x + __ldg(a + gate) * x_pitch;
  const uint8_t* right = x + __ldg(b + gate) * x_pitch;
  uint8_t* to = y + gate * y_pitch;
#pragma unroll 2
  for (int64_t vector = thread % lanes; vector < vectors; vector += lanes) {
    const uint4 u = *reinterpret_cast<const uint4*>(left + vector * kVectorBytes);
    const uint4 v = *reinterpret_cast<const uint4*>(right + vector * kVectorBytes);
    uint4 out;
    out.x = evaluate(of, u.x, v.x);
    out.y = evaluate(of, u.y, v.y);
    out.z = evaluate(of, u.z, v.z);
    out.w = evaluate(of, u.w, v.w);
    *reinterpret_cast<uint4*>(to + vector * kVectorBytes) = out;
  }
}

// A block counts 32 · `columns` samples of a slice of one class. A thread adds words to bit-sliced counters, threads
// add up in shared memory. Integer sums do not depend on their order, so atomics are safe for them.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const uint8_t* __restrict__ x, int64_t pitch, int64_t batch, int64_t group, int64_t classes,
                 int64_t tiles, int columns, int64_t slices, int32_t* __restrict__ out) {
  __shared__ int32_t counts[32][kWarp + 1];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 32 * kWarp; i += kThreads) counts[i / kWarp][i % kWarp] = 0;
  __syncthreads();
  const int64_t tile = blockIdx.x % tiles, task = blockIdx.x / tiles, c = task % classes, slice = task / classes;
  const int64_t begin = c * group + slice * group / slices, end = c * group + (slice + 1) * group / slices;
  const int column = thread % columns, rows = kThreads / columns;
  const int64_t word = tile * columns + column;
  if (word * 32 < batch) {
    const uint8_t* from = x + word * 4;
    for (int64_t f = begin + thread / columns; f < end;) {
      BitCounters counters;
#pragma unroll 4
      for (int k = 0; k < kBitCounterMax && f < end; k += 2, f += 2 * rows) {
        const uint32_t u = *reinterpret_cast<const uint32_t*>(from + f * pitch);
        const uint32_t v = f + rows < end ? *reinterpret_cast<const uint32_t*>(from + (f + rows) * pitch) : 0;
        counters.add(u, v);
      }
#pragma unroll
      for (int bit = 0; bit < 32; bit++) atomicAdd(&counts[bit][column], counters.count(bit));
    }
  }
  __syncthreads();
  for (int i = thread; i < 32 * columns; i += kThreads) {
    const int64_t sample = (tile * columns + i / 32) * 32 + i % 32;
    if (sample < batch) atomicAdd(out + sample * classes + c, counts[i % 32][i / 32]);
  }
}

__global__ void __launch_bounds__(kThreads)
    score_kernel(const int32_t* __restrict__ counts, int64_t count, float tau, float* __restrict__ scores) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) scores[i] = static_cast<float>(counts[i]) / tau;
}

}  // namespace

void pack_bits(const uint8_t* x, int64_t sample_stride, int64_t feature_stride, int64_t batch, int64_t features,
               uint8_t* out, int64_t pitch, cudaStream_t stream) {
  const bool by_word = sample_stride == 1 && feature_stride % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 4 == 0;
  launch(&pack_kernel, ceil_div(ceil_div(batch, kVectorSamples) * features, kThreads), stream, x, sample_stride,
         feature_stride, batch, features, by_word, out, pitch);
}

void unpack_bits(const uint8_t* x, int64_t pitch, int64_t batch, int64_t features, uint8_t* out, cudaStream_t stream) {
  launch(&unpack_kernel, ceil_div(ceil_div(batch, 32) * features, kThreads), stream, x, pitch, batch, features, out);
}

void logic_packed(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                  int64_t gate_count, int64_t row_bytes, uint8_t* y, int64_t y_pitch, cudaStream_t stream) {
  const int64_t vectors = ceil_div(row_bytes, kVectorBytes);
  const int lanes = lanes_of(vectors);
  launch(&logic_kernel, ceil_div(gate_count * lanes, kThreads), stream, x, x_pitch, gates, a, b, gate_count, vectors,
         lanes, y, y_pitch);
}

void group_sum_packed(const uint8_t* x, int64_t pitch, int64_t batch, int64_t group, int64_t classes, int32_t* out,
                      cudaStream_t stream) {
  const int64_t words = ceil_div(batch, 32);
  const int columns = lanes_of(words);
  const int64_t tiles = ceil_div(words, columns);
  // As many slices as keep the counters of every thread busy, and no more than keep a GPU busy.
  const int64_t full = ceil_div(group, int64_t{kThreads / columns} * kBitCounterMax / 4);
  const int64_t wanted = ceil_div(kBusyWarps / kBlockWarps, tiles * classes);
  const int64_t slices = full < wanted ? full : wanted;
  launch(&count_kernel, tiles * classes * slices, stream, x, pitch, batch, group, classes, tiles, columns, slices, out);
}

void scores_of_counts(const int32_t* counts, int64_t count, float tau, float* scores, cudaStream_t stream) {
  launch(&score_kernel, ceil_div(count, kThreads), stream, counts, count, tau, scores);
}

}  // namespace lgn::cuda
