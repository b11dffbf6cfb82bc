// Learned connections: the choice of a step, the gradient that learns it, and that of inputs whose wires change.
#include "bits_input.cuh"
#include "choices.h"
#include "dense_backward.cuh"

namespace lgn::cuda {
namespace {

// A thread a row.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const float* __restrict__ logits, const int32_t* __restrict__ candidates, int64_t rows, int count,
                  const float* __restrict__ level, float noise, int32_t* __restrict__ a, int32_t* __restrict__ b,
                  float* __restrict__ shares) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  const float* p = logits + row * count;
  float top = p[0];
  int chosen = 0;
  for (int k = 1; k < count; k++) {
    if (p[k] > top || (p[k] != p[k] && top == top)) top = p[k], chosen = k;  // a NaN is the largest, as for argmax
  }
  if (level != nullptr) {
    const float scale = 1.0f / noise;
    float sum = 0, below = 0;
    for (int k = 0; k < count; k++) sum += expf((p[k] - top) * scale);
    const float mark = __ldg(level + row) * sum;
    chosen = 0;
    for (int k = 0; k < count - 1; k++) {
      below += expf((p[k] - top) * scale);
      chosen += mark >= below;
    }
  }
  (row % 2 ? b : a)[row / 2] = __ldg(candidates + row * count + chosen);
  float sum = 0;
  for (int k = 0; k < count; k++) sum += expf(p[k] - top);
  const float scale = 1.0f / sum;
  for (int k = 0; k < count; k++) shares[row * count + k] = expf(p[k] - top) * scale;
}

__global__ void __launch_bounds__(kThreads)
    choose_backward_kernel(const float* __restrict__ grad, const float* __restrict__ shares, int64_t rows, int count,
                           float* __restrict__ out) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;
  const float *g = grad + row * count, *p = shares + row * count;
  float mean = 0;
  for (int k = 0; k < count; k++) mean += g[k] * p[k];
  for (int k = 0; k < count; k++) out[row * count + k] = p[k] * (g[k] - mean);
}

// A warp sums four numbers of a gate over all samples: the gradients of four candidates of an input, or of the table.
// `fours` is the number of such tasks of an input. Warps of a gate are neighbours, so that its rows come from the
// cache.
template <typename Input, bool Compact>
__global__ void __launch_bounds__(kThreads)
    choices_kernel(const Input x, const SumOf<typename Input::Element>* __restrict__ table,
                   const int32_t* __restrict__ a, const int32_t* __restrict__ b, const int32_t* __restrict__ candidates,
                   int64_t gates, int count, int fours, int tasks, int64_t batch, int64_t tiles,
                   const void* __restrict__ grad, int64_t grad_pitch, uint32_t group,
                   SumOf<typename Input::Element>* __restrict__ grad_shares,
                   SumOf<typename Input::Element>* __restrict__ grad_table) {
  using S = SumOf<typename Input::Element>;
  constexpr int V = Input::kVec;
  using GradElement = std::conditional_t<Compact, S, typename Input::Element>;
  constexpr int kGradStep = Compact ? 16 / static_cast<int>(sizeof(S)) : V;
  using GradRow = Samples<GradElement, kGradStep>;
  const int64_t warp = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp, gate = warp / tasks;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, task = static_cast<int>(warp % tasks);
  if (gate >= gates) return;
  const bool of_table = task == 2 * fours;
  const int side = task / fours, first = task % fours * 4;
  S entries[4];
  load_table(table, gate, entries);
  const Gate<S> line = gate_of(entries, false);
  const int32_t wire_a = __ldg(a + gate), wire_b = __ldg(b + gate);
  int32_t wire[4];
#pragma unroll
  for (int q = 0; q < 4; q++) {
    wire[q] = !of_table && first + q < count ? __ldg(candidates + (2 * gate + side) * count + first + q) : -1;
  }
  const int64_t from = Compact ? static_cast<uint32_t>(gate) / group : gate;
  const GradElement* upper = static_cast<const GradElement*>(grad) + from * grad_pitch;
  S sum[4] = {};
  TableSums<S> sums;
  for (int64_t tile = 0; tile < tiles; tile++) {
    const int64_t at = first_sample(tile, lane, V);
    if (at >= batch) break;
    S u[V], v[V], g[V];
    x.load(wire_a, at).unpack(u);
    x.load(wire_b, at).unpack(v);
#pragma unroll
    for (int k = 0; k < V / kGradStep; k++) {
      S part[kGradStep];
      GradRow::load(upper + at + k * kGradStep).unpack(part);
#pragma unroll
      for (int i = 0; i < kGradStep; i++) g[k * kGradStep + i] = part[i];
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
      if (at + i >= batch) g[i] = u[i] = v[i] = 0;  // padding may hold NaN
    }
    if (of_table) {
#pragma unroll
      for (int i = 0; i < V; i++) sums.add(g[i], u[i], v[i]);
      continue;
    }
    S slope[V];
#pragma unroll
    for (int i = 0; i < V; i++) slope[i] = g[i] * (side ? slope_b(line, u[i]) : slope_a(line, v[i]));
#pragma unroll
    for (int q = 0; q < 4; q++) {
      if (wire[q] < 0) continue;
      S row[V];
      x.load(wire[q], at).unpack(row);
#pragma unroll
      for (int i = 0; i < V; i++) sum[q] += at + i < batch ? slope[i] * row[i] : S{0};
    }
  }
  if (of_table) sums.entries(false, sum);
  const S total = sum_four(sum, lane);
  const int q = lane / 8;
  if (lane % 8 != 0) return;
  if (of_table) {
    grad_table[gate * 4 + q] = total;
  } else if (first + q < count) {
    grad_shares[(2 * gate + side) * count + first + q] = total;
  }
}

// Threads share the inputs, and the samples of each.
__global__ void __launch_bounds__(kThreads)
    inputs_kernel(const BitInput x, const float* __restrict__ table, const int32_t* __restrict__ a,
                  const int32_t* __restrict__ b, const int32_t* __restrict__ uses, const int32_t* __restrict__ begin,
                  int64_t inputs, int64_t vectors, int lanes, const float* __restrict__ grad, int64_t grad_pitch,
                  uint32_t group, float* __restrict__ grad_x, int64_t grad_x_pitch) {
  constexpr int V = BitInput::kVec;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, input = thread / lanes;
  if (input >= inputs) return;
  const int32_t first = __ldg(begin + input), last = __ldg(begin + input + 1);
  for (int64_t vector = thread % lanes; vector < vectors; vector += lanes) {
    float sum[V] = {};
    for (int32_t k = first; k < last; k++) {
      const int32_t use = __ldg(uses + k), gate = use / 2;
      const bool second = use % 2 != 0;
      float entries[4], other[V], g[V];
      load_table(table, gate, entries);
      const Gate<float> line = x.scaled(gate_of(entries, false));
      x.load(__ldg((second ? a : b) + gate), vector * V).unpack(other);
      const int64_t from = group > 0 ? static_cast<uint32_t>(gate) / group : gate;
      Samples<float, V>::load(grad + from * grad_pitch + vector * V).unpack(g);
#pragma unroll
      for (int i = 0; i < V; i++) sum[i] += g[i] * (second ? slope_b(line, other[i]) : slope_a(line, other[i]));
    }
    Samples<float, V>::store(grad_x + input * grad_x_pitch + vector * V, sum);
  }
}

template <bool Compact, typename Input>
void launch_choices(const Input& input, const ChoiceArgs& args, cudaStream_t stream) {
  using S = SumOf<typename Input::Element>;
  const int fours = static_cast<int>(ceil_div(args.count, 4)), tasks = 2 * fours + (args.grad_table != nullptr ? 1 : 0);
  launch(&choices_kernel<Input, Compact>, ceil_div(args.gates * tasks, kBlockWarps), stream, input,
         static_cast<const S*>(args.table), args.a, args.b, args.candidates, args.gates, static_cast<int>(args.count),
         fours, tasks, args.batch, tiles_of(args.batch, Input::kVec).count, args.grad, args.grad_pitch,
         static_cast<uint32_t>(args.group), static_cast<S*>(args.grad_shares), static_cast<S*>(args.grad_table));
}

template <typename Input>
void choices_on(const Input& input, const ChoiceArgs& args, cudaStream_t stream) {
  if (args.group > 0) {
    launch_choices<true>(input, args, stream);
  } else {
    launch_choices<false>(input, args, stream);
  }
}

}  // namespace

void choose(const float* logits, const int32_t* candidates, int64_t gates, int64_t count, const float* level,
            float noise, int32_t* a, int32_t* b, float* shares, cudaStream_t stream) {
  launch(&choose_kernel, ceil_div(2 * gates, kThreads), stream, logits, candidates, 2 * gates, static_cast<int>(count),
         level, noise, a, b, shares);
}

void choose_backward(const float* grad, const float* shares, int64_t gates, int64_t count, float* out,
                     cudaStream_t stream) {
  launch(&choose_backward_kernel, ceil_div(2 * gates, kThreads), stream, grad, shares, 2 * gates,
         static_cast<int>(count), out);
}

void choices_backward(const ChoiceArgs& args, cudaStream_t stream) {
  for_storage(args.storage, args.batch, [&](auto element, auto vec) {
    using T = decltype(element);
    choices_on(RowInput<T, decltype(vec)::value>{static_cast<const T*>(args.x), args.x_pitch}, args, stream);
  });
}

void bit_choices_backward(const ChoiceArgs& args, cudaStream_t stream) {
  choices_on(BitInput{static_cast<const uint8_t*>(args.x), args.x_pitch, 1.0f}, args, stream);
}

void bit_inputs_backward(const ChoiceArgs& args, float factor, const int32_t* uses, const int32_t* begin,
                         int64_t inputs, float* grad_x, int64_t grad_x_pitch, cudaStream_t stream) {
  const int64_t vectors = ceil_div(args.batch, BitInput::kVec);
  const int lanes = lanes_of(vectors);
  launch(&inputs_kernel, ceil_div(inputs * lanes, kThreads), stream,
         BitInput{static_cast<const uint8_t*>(args.x), args.x_pitch, factor}, static_cast<const float*>(args.table),
         args.a, args.b, uses, begin, inputs, vectors, lanes, static_cast<const float*>(args.grad), args.grad_pitch,
         static_cast<uint32_t>(args.group), grad_x, grad_x_pitch);
}

}  // namespace lgn::cuda
