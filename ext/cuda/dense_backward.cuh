// The backward pass of a layer of gates, on inputs that are rows of samples or packed bits.
#pragma once

#include "dense.h"
#include "device.cuh"

namespace lgn::cuda {
namespace {

constexpr int kUnroll = 4;  // loads in flight before the first is used
constexpr int32_t kNowhere = INT32_MIN;

__device__ __forceinline__ Visit load_visit(const Visit* p) {
  const uint4 raw = __ldg(reinterpret_cast<const uint4*>(p));
  return {static_cast<int32_t>(raw.x), static_cast<int32_t>(raw.y), static_cast<int32_t>(raw.z),
          static_cast<int32_t>(raw.w)};
}

// The run of stops of a warp, and its tiles.
struct Walker {
  int lane, part, parts;  // warps that share the run
  int slot;               // of the run in the block
  int64_t begin, end;
  __device__ Walker(int64_t visits, int chunk, int warps) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    lane = static_cast<int>(threadIdx.x) % kWarp;
    part = warp % warps;
    parts = warps;
    slot = warp / warps;
    begin = (int64_t{blockIdx.x} * (kBlockWarps / warps) + slot) * chunk;
    begin = begin < visits ? begin : visits;
    end = begin + chunk < visits ? begin + chunk : visits;
  }
};

// Inputs as rows of a storage type.
template <typename T, int V>
struct RowInput {
  using Element = T;  // of the gradients, too
  using Loaded = Samples<T, V>;
  static constexpr int kVec = V;

  const T* x;
  int64_t pitch;

  __device__ __forceinline__ Loaded load(int32_t input, int64_t at) const {
    return Loaded::load(x + input * pitch + at);
  }
  __device__ __forceinline__ Gate<SumOf<T>> scaled(const Gate<SumOf<T>>& gate) const { return gate; }
};

// Stops begin … end-1 belong to a warp: their gradients and the tables of the gates that lead to them. It looks at the
// gate to stop `end` too, for the part that the last stop gets from there.
template <typename Input, bool Compact, bool NeedX>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const Input x, const SumOf<typename Input::Element>* __restrict__ table,
                    const Visit* __restrict__ visits, int64_t count, int64_t batch, int chunk, int warps, int64_t tiles,
                    const void* __restrict__ grad, int64_t grad_pitch, uint32_t group,
                    SumOf<typename Input::Element>* __restrict__ grad_table,
                    typename Input::Element* __restrict__ grad_x, int64_t grad_x_pitch,
                    SumOf<typename Input::Element>* __restrict__ partials, int64_t partial_pitch) {
  using T = typename Input::Element;
  using S = SumOf<T>;
  constexpr int V = Input::kVec;
  using Row = Samples<T, V>;
  using GradElement = std::conditional_t<Compact, S, T>;
  constexpr int kGradStep = Compact ? 16 / static_cast<int>(sizeof(S)) : V;  // samples of one load of the gradient
  using GradRow = Samples<GradElement, kGradStep>;
  __shared__ S sums[kBlockWarps][kMaxChunk][4];

  const Walker walker(count, chunk, warps);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const bool one_tile = tiles == 1;
  if (!one_tile) {
    for (int i = walker.lane; i < kMaxChunk * 4; i += kWarp) sums[warp][i / 4][i % 4] = 0;
    __syncwarp();
  }
  // The same for all lanes of a warp, and so is every branch around an exchange below.
  const bool halo =
      NeedX && walker.begin < walker.end && walker.end < count && load_visit(visits + walker.end).gate >= 0;
  const int64_t stop = walker.end + (halo ? 1 : 0);

  for (int64_t tile = walker.part; tile < tiles && walker.begin < walker.end; tile += warps) {
    const int64_t at = first_sample(tile, walker.lane, V);
    const bool active = at < batch;
    S previous[V] = {}, carried[V] = {};
    int32_t target = kNowhere;  // of the stop before; nowhere if that belongs to another warp
    if (active && load_visit(visits + walker.begin).gate >= 0) {
      x.load(load_visit(visits + walker.begin - 1).input, at).unpack(previous);
    }
    const auto deliver = [&](const S(&value)[V]) {
      if (!active || target == kNowhere) return;
      if (target >= 0) {
        Row::store(grad_x + target * grad_x_pitch + at, value);
      } else {
        store_sums(partials + int64_t{~target} * partial_pitch + at, value, V);
      }
    };
    for (int64_t p = walker.begin; p < stop; p += kUnroll) {
      Visit visit[kUnroll];
      typename Input::Loaded row[kUnroll];
      GradRow upper[kUnroll][V / kGradStep];
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        visit[u] = p + u < stop ? load_visit(visits + p + u) : Visit{-1, -1, 0, 0};
      }
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        row[u] = active && visit[u].input >= 0 ? x.load(visit[u].input, at) : Input::Loaded::zero();
        const bool wanted = active && visit[u].gate >= 0;
        const int64_t from = Compact ? static_cast<uint32_t>(visit[u].gate) / group : visit[u].gate;
#pragma unroll
        for (int k = 0; k < V / kGradStep; k++) {
          upper[u][k] =
              wanted ? GradRow::load(static_cast<const GradElement*>(grad) + from * grad_pitch + at + k * kGradStep)
                     : GradRow::zero();
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; u++) {
        if (p + u >= stop) break;
        const bool own = p + u < walker.end;
        S here[V], g[V], down[V] = {}, next[V] = {};
        row[u].unpack(here);
#pragma unroll
        for (int k = 0; k < V / kGradStep; k++) {
          S part[kGradStep];
          upper[u][k].unpack(part);
#pragma unroll
          for (int i = 0; i < kGradStep; i++) g[k * kGradStep + i] = part[i];
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
          if (at + i >= batch) here[i] = g[i] = previous[i] = 0;  // padding may hold NaN
        }
        if (visit[u].gate >= 0) {
          TableSums<S> of_table;
          Gate<S> gate{};
          if constexpr (NeedX) {
            S entries[4];
            load_table(table, visit[u].gate, entries);
            gate = x.scaled(gate_of(entries, visit[u].swapped));
          }
#pragma unroll
          for (int i = 0; i < V; i++) {
            of_table.add(g[i], previous[i], here[i]);
            if constexpr (NeedX) {
              down[i] = g[i] * slope_a(gate, here[i]);
              next[i] = g[i] * slope_b(gate, previous[i]);
            }
          }
          if (own) {
            S entries[4];
            of_table.entries(visit[u].swapped, entries);
            const S sum = sum_four(entries, walker.lane);
            if (walker.lane % 8 == 0) {
              if (one_tile) {
                grad_table[int64_t{visit[u].gate} * 4 + walker.lane / 8] = sum;
              } else {
                sums[warp][p + u - walker.begin][walker.lane / 8] += sum;
              }
            }
          }
        }
        if constexpr (NeedX) {
#pragma unroll
          for (int i = 0; i < V; i++) carried[i] += down[i];
          deliver(carried);
          target = own ? visit[u].target : kNowhere;
#pragma unroll
          for (int i = 0; i < V; i++) carried[i] = next[i];
        }
#pragma unroll
        for (int i = 0; i < V; i++) previous[i] = here[i];
      }
    }
    if constexpr (NeedX) deliver(carried);
  }
  if (one_tile) return;
  __syncthreads();
  // Warps of a run add up in their order.
  const int threads = walker.parts * kWarp, thread = walker.part * kWarp + walker.lane;
  for (int i = thread; i < static_cast<int>(walker.end - walker.begin) * 4; i += threads) {
    const int32_t gate = load_visit(visits + walker.begin + i / 4).gate;
    if (gate < 0) continue;
    S sum = 0;
    for (int w = 0; w < walker.parts; w++) sum += sums[walker.slot * walker.parts + w][i / 4][i % 4];
    grad_table[int64_t{gate} * 4 + i % 4] = sum;
  }
}

// Sums the slots of each input that has several stops; an input without a gate has none and gets zeros.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(const SumOf<T>* __restrict__ partials, int64_t partial_pitch, const int32_t* __restrict__ inputs,
                 const int32_t* __restrict__ begin, int64_t merges, int64_t vectors, int lanes, T* __restrict__ grad_x,
                 int64_t grad_x_pitch) {
  using S = SumOf<T>;
  constexpr int kStep = 16 / static_cast<int>(sizeof(S));
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, merge = thread / lanes;
  if (merge >= merges) return;
  const int32_t first = __ldg(begin + merge), last = __ldg(begin + merge + 1);
  for (int64_t vector = thread % lanes; vector < vectors; vector += lanes) {
    S sum[V] = {};
    for (int64_t slot = first; slot < last; slot++) {
#pragma unroll
      for (int k = 0; k < V; k += kStep) {
        S part[kStep];
        Samples<S, kStep>::load(partials + slot * partial_pitch + vector * V + k).unpack(part);
#pragma unroll
        for (int i = 0; i < kStep; i++) sum[k + i] += part[i];
      }
    }
    Samples<T, V>::store(grad_x + __ldg(inputs + merge) * grad_x_pitch + vector * V, sum);
  }
}

template <bool Compact, bool NeedX, typename Input>
void launch_backward(const Input& input, const LayerArgs& layer, const GradientArgs& to, cudaStream_t stream) {
  using T = typename Input::Element;
  using S = SumOf<T>;
  constexpr int V = Input::kVec;
  const Tiles tiles = tiles_of(layer.batch, V);
  const int chunk = chunk_of(layer.visit_count, tiles.warps);
  launch(&backward_kernel<Input, Compact, NeedX>, blocks_of(layer.visit_count, chunk, tiles.warps), stream, input,
         static_cast<const S*>(layer.table), layer.visits, layer.visit_count, layer.batch, chunk, tiles.warps,
         tiles.count, to.grad, to.grad_pitch, static_cast<uint32_t>(to.group), static_cast<S*>(to.grad_table),
         static_cast<T*>(to.grad_x), to.grad_x_pitch, static_cast<S*>(to.partials), to.partial_pitch);
  if constexpr (NeedX) {
    const int64_t vectors = ceil_div(layer.batch, V);
    const int lanes = lanes_of(vectors);
    launch(&merge_kernel<T, V>, ceil_div(to.merges * lanes, kThreads), stream, static_cast<const S*>(to.partials),
           to.partial_pitch, to.merge_inputs, to.merge_begin, to.merges, vectors, lanes, static_cast<T*>(to.grad_x),
           to.grad_x_pitch);
  }
}

// The backward pass of a layer whose inputs are rows of some kind.
template <typename Input>
void backward_on(const Input& input, const LayerArgs& layer, const GradientArgs& to, cudaStream_t stream) {
  if (to.group > 0) {
    if (to.grad_x != nullptr) {
      launch_backward<true, true>(input, layer, to, stream);
    } else {
      launch_backward<true, false>(input, layer, to, stream);
    }
  } else if (to.grad_x != nullptr) {
    launch_backward<false, true>(input, layer, to, stream);
  } else {
    launch_backward<false, false>(input, layer, to, stream);
  }
}

}  // namespace
}  // namespace lgn::cuda
