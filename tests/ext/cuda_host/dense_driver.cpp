// The CUDA kernels and their plan as a library of plain functions on host memory, for test_cuda_dense.py.
#include "cuda_on_host.h"
// After the stand-ins for CUDA's keywords:
#include "../../../ext/cuda/bits.cu"
#include "../../../ext/cuda/choices.cu"
#include "../../../ext/cuda/dense.cu"
#include "../../../ext/cuda/dense_group_sum.cu"
#include "../../../ext/cuda/dense_plan.h"
#include "../../../ext/cuda/dense_softmax.cu"
#include "../../../ext/cuda/straight_through.cu"

using namespace lgn::cuda;

extern "C" {

// Sizes: visits, merges, slots. Returns a walk to be freed with host_walk_free.
void* host_walk(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs, int64_t* sizes) {
  auto* walk = new Walk(make_walk(a, b, gates, inputs));
  sizes[0] = static_cast<int64_t>(walk->visits.size());
  sizes[1] = static_cast<int64_t>(walk->merge_inputs.size());
  sizes[2] = walk->merge_begin.empty() ? 0 : walk->merge_begin.back();
  sizes[3] = walk->bad_gate;
  return walk;
}
void host_walk_free(void* walk) { delete static_cast<Walk*>(walk); }
void host_walk_visits(const void* walk, int32_t* out) {
  const auto& visits = static_cast<const Walk*>(walk)->visits;
  std::memcpy(out, visits.data(), visits.size() * sizeof(Visit));
}

static LayerArgs layer_args(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                            const Walk& walk) {
  return {static_cast<Storage>(storage),           batch, x, x_pitch, table, walk.visits.data(),
          static_cast<int64_t>(walk.visits.size())};
}

void host_logic_forward(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                        const void* walk, void* y, int64_t y_pitch) {
  logic_forward(layer_args(storage, batch, x, x_pitch, table, *static_cast<const Walk*>(walk)), y, y_pitch, nullptr);
}

void host_logic_backward(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                         const void* walk, const void* grad, int64_t grad_pitch, int32_t group, void* grad_table,
                         void* grad_x, int64_t grad_x_pitch, void* partials, int64_t partial_pitch) {
  const Walk& w = *static_cast<const Walk*>(walk);
  logic_backward(layer_args(storage, batch, x, x_pitch, table, w),
                 {grad, grad_pitch, group, grad_table, grad_x, grad_x_pitch, partials, partial_pitch,
                  w.merge_inputs.data(), w.merge_begin.data(), static_cast<int64_t>(w.merge_inputs.size())},
                 nullptr);
}

// x being packed bits, its pitch in bytes.
void host_bit_layer_backward(int64_t batch, const void* x, int64_t x_pitch, const void* table, const void* walk,
                             float factor, const void* grad, int64_t grad_pitch, int32_t group, void* grad_table,
                             void* grad_x, int64_t grad_x_pitch, void* partials, int64_t partial_pitch) {
  const Walk& w = *static_cast<const Walk*>(walk);
  bit_layer_backward(layer_args(0, batch, x, x_pitch, table, w), factor,
                     {grad, grad_pitch, group, grad_table, grad_x, grad_x_pitch, partials, partial_pitch,
                      w.merge_inputs.data(), w.merge_begin.data(), static_cast<int64_t>(w.merge_inputs.size())},
                     nullptr);
}
void host_gate_ids(const float* logits, int64_t gates, int64_t width, uint8_t* ids) {
  gate_ids(logits, gates, width, ids, nullptr);
}
void host_scores_of_counts(const int32_t* counts, int64_t count, float tau, float* scores) {
  scores_of_counts(counts, count, tau, scores, nullptr);
}

void host_choose(const float* logits, const int32_t* candidates, int64_t gates, int64_t count, const float* level,
                 float noise, int32_t* a, int32_t* b, float* shares) {
  choose(logits, candidates, gates, count, level, noise, a, b, shares, nullptr);
}
void host_choose_backward(const float* grad, const float* shares, int64_t gates, int64_t count, float* out) {
  choose_backward(grad, shares, gates, count, out, nullptr);
}

// Storage -1: x being packed bits. `uses` and `begin` may be null: no gradient of x then.
void host_choices_backward(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table,
                           const int32_t* a, const int32_t* b, const int32_t* candidates, int64_t gates, int64_t count,
                           const void* grad, int64_t grad_pitch, int32_t group, void* grad_shares, void* grad_table,
                           float factor, const int32_t* uses, const int32_t* begin, int64_t inputs, void* grad_x,
                           int64_t grad_x_pitch) {
  const Storage of_x = static_cast<Storage>(storage < 0 ? 0 : storage);
  const ChoiceArgs args{of_x,  batch, x,    x_pitch,    table, a,           b,         candidates,
                        gates, count, grad, grad_pitch, group, grad_shares, grad_table};
  storage < 0 ? bit_choices_backward(args, nullptr) : choices_backward(args, nullptr);
  if (uses != nullptr) {
    bit_inputs_backward(args, factor, uses, begin, inputs, static_cast<float*>(grad_x), grad_x_pitch, nullptr);
  }
}

int64_t host_group_slices(int64_t group) { return group_slices(group); }
void host_group_sum(int32_t storage, int64_t batch, const void* x, int64_t x_pitch, const void* table, const int32_t* a,
                    const int32_t* b, int64_t group, int64_t classes, double tau, void* partials, int64_t partial_pitch,
                    void* out) {
  group_sum({static_cast<Storage>(storage), batch, x, x_pitch, table, a, b, group, classes, tau, partials,
             partial_pitch, out},
            nullptr);
}
void host_compact_gradient(int32_t storage, const void* grad, int64_t s0, int64_t s1, int64_t batch, int64_t classes,
                           double scale, void* out, int64_t pitch) {
  compact_gradient(static_cast<Storage>(storage), grad, s0, s1, batch, classes, scale, out, pitch, nullptr);
}
void host_softmax_table(int32_t wide, const void* logits, int64_t gates, void* table) {
  softmax_table(wide != 0, logits, gates, table, nullptr);
}
void host_softmax_table_backward(int32_t wide, const void* grad, const void* logits, int64_t gates, void* out) {
  softmax_table_backward(wide != 0, grad, logits, gates, out, nullptr);
}
void host_pack_bits(const uint8_t* x, int64_t s0, int64_t s1, int64_t batch, int64_t features, uint8_t* out,
                    int64_t pitch) {
  pack_bits(x, s0, s1, batch, features, out, pitch, nullptr);
}
void host_unpack_bits(const uint8_t* x, int64_t pitch, int64_t batch, int64_t features, uint8_t* out) {
  unpack_bits(x, pitch, batch, features, out, nullptr);
}
void host_logic_packed(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                       int64_t count, int64_t row_bytes, uint8_t* y, int64_t y_pitch) {
  logic_packed(x, x_pitch, gates, a, b, count, row_bytes, y, y_pitch, nullptr);
}
void host_group_sum_packed(const uint8_t* x, int64_t pitch, int64_t batch, int64_t group, int64_t classes,
                           int32_t* out) {
  group_sum_packed(x, pitch, batch, group, classes, out, nullptr);
}

// Conversions of the 16-bit storage types, both ways.
void host_narrow(int32_t storage, const float* x, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; i++) {
    if (static_cast<Storage>(storage) == Storage::kBF16) {
      BF16 value;
      narrow(x[i], value);
      out[i] = value.bits;
    } else {
      F16 value;
      narrow(x[i], value);
      out[i] = value.bits;
    }
  }
}
void host_widen(int32_t storage, const uint16_t* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i++) {
    out[i] = static_cast<Storage>(storage) == Storage::kBF16 ? widen(BF16{x[i]}) : widen(F16{x[i]});
  }
}

int64_t host_tiles(int64_t batch, int32_t vec, int32_t* warps) {
  const Tiles tiles = tiles_of(batch, vec);
  *warps = tiles.warps;
  return tiles.count;
}
int32_t host_chunk(int64_t visits, int32_t warps) { return chunk_of(visits, warps); }
int64_t host_blocks(int64_t visits, int32_t chunk, int32_t warps) { return blocks_of(visits, chunk, warps); }
int32_t host_lanes(int64_t vectors) { return lanes_of(vectors); }

}  // extern "C"
