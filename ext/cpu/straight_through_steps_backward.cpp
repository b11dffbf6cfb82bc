// The gradient of a stack of straight-through layers that is applied step by step.
//
// The batch goes in tiles, each from the last step to the first before the next tile. The layers of a step are
// evaluated again, so that memory grows with steps and state alone.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "straight_through_steps.h"

namespace lgn {
namespace {

// The backward pass, tile by tile, and of a tile step by step.
class StepsBackward {
 public:
  StepsBackward(const Steps& steps, const Tensor& grad, const Tensor& inputs, HardLayers hard,
                std::vector<BitLayer> layers, double tau, int64_t truncate, bool need_x, bool need_initial)
      : steps_(steps),
        grad_(grad.to(at::kFloat).contiguous()),
        inputs_(inputs),
        hard_(std::move(hard)),
        stack_(std::move(layers), true),
        tiling_(steps.batch, kFloat),
        scale_(static_cast<float>(1.0 / tau)),
        truncate_(truncate),
        need_x_(need_x),
        need_initial_(need_initial) {
    std::tie(grad_tables_, grad_logits_) = new_gradients(stack_.layers());
    grad_x_ = at::empty({0}, at::device(at::kCPU).dtype(at::kFloat));
    if (need_x) {
      x_pitch_ = padded_bytes(std::max<int64_t>(steps.batch, 1) * kFloat);
      const int64_t row = x_pitch_ / kFloat;
      grad_x_ = pooled({steps.batch, steps.count, steps.width}, {1, steps.width * row, row},
                       steps.count * steps.width * x_pitch_, at::kFloat);
    }
    grad_initial_ = at::zeros({need_initial ? std::max<int64_t>(tiling_.slabs, 1) : 0, steps.state},
                              at::device(at::kCPU).dtype(at::kFloat));
  }

  std::tuple<Tensor, Tensor, std::vector<Tensor>, std::vector<Tensor>> run() {
    const BitSums sums(stack_.layers(), tiling_.slabs);
    const auto inside = [](int64_t count, int64_t, const auto& visit) { visit(int64_t{0}, count); };
    const auto shared = [](int64_t count, int64_t grain, const auto& visit) { parallel_for(count, grain, visit); };
    if (tiling_.slabs == 1) {  // threads share the gates of each layer in turn
      run_slab(0, sums, shared);
    } else {  // or the slabs of the batch
      parallel_for(tiling_.slabs, 1, [&](int64_t begin, int64_t end) {
        for (int64_t slab = begin; slab < end; slab++) run_slab(slab, sums, inside);
      });
    }
    if (steps_.batch == 0) {
      for (Tensor& t : grad_tables_) t.zero_();
      for (Tensor& t : grad_logits_) t.zero_();
    } else {
      sums.finish(grad_tables_, grad_logits_);
    }
    for (size_t l = 0; l < grad_tables_.size(); l++) stack_.layers()[l].finish(grad_tables_[l]);
    return {grad_x_, need_initial_ ? grad_initial_.sum(0) : grad_initial_.view({0}), grad_tables_, grad_logits_};
  }

 private:
  // Rows of one tile: gradients of a step's outputs, of its inputs, of the state, and two buffers of the stack; then
  // the bits of all layers.
  struct Buffers {
    Tensor owner;
    char *outputs, *inputs, *state;
    char* rows[2];
    std::vector<uint8_t*> bits;

    Buffers(const Steps& steps, const BitStack& stack) {
      const BitLayer& first = stack.layers().front();
      const int64_t sizes[5] = {steps.outputs(), first.inputs + first.side_rows(), steps.state, stack.widest(),
                                stack.widest()};
      int64_t bytes = 0;
      for (const int64_t rows_of : sizes) bytes += rows_of * kTileBytes;
      for (const BitLayer& layer : stack.layers()) bytes += layer.gates * kBitRowBytes;
      owner = pooled({1}, {1}, bytes, at::kByte);
      char* at = static_cast<char*>(owner.mutable_data_ptr());
      char** places[5] = {&outputs, &inputs, &state, &rows[0], &rows[1]};
      for (int i = 0; i < 5; i++) *places[i] = at, at += sizes[i] * kTileBytes;
      for (const BitLayer& layer : stack.layers()) {
        bits.push_back(reinterpret_cast<uint8_t*>(at));
        at += layer.gates * kBitRowBytes;
      }
    }
  };

  template <typename VisitAll>
  void run_slab(int64_t slab, const BitSums& sums, const VisitAll& visit_all) {
    std::vector<BitDestination> to = sums.of_slab(slab);
    Buffers buffers(steps_, stack_);
    float* of_initial = need_initial_ ? grad_initial_.mutable_data_ptr<float>() + slab * steps_.state : nullptr;
    const auto first = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab)]);
    const auto last = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab) + 1]);
    for (size_t i = first; i < last; i++) run_tile(tiling_.tiles[i], buffers, to, of_initial, visit_all);
    if (to[0].more) return;
    for (size_t l = 0; l < to.size(); l++) {  // no step has a gradient
      const BitLayer& layer = stack_.layers()[l];
      if (to[l].candidates) std::memset(to[l].candidates, 0, static_cast<size_t>(layer.shares.numel() * kFloat));
    }
  }

  template <typename VisitAll>
  void run_tile(const Tile& tile, Buffers& buffers, std::vector<BitDestination>& to, float* of_initial,
                const VisitAll& visit_all) {
    const int64_t sample = tile.offset / kFloat, pitch = inputs_.stride(2) * 8;
    const auto bytes = static_cast<size_t>(tile.lines * kLineBytes);
    const bool wanted = need_x_ || need_initial_;
    bool has_state = false;  // whether the gradient of the state is not zero
    for (int64_t t = steps_.count; t-- > 0;) {
      if (truncate_ && t + 1 < steps_.count && (t + 1) % truncate_ == 0) has_state = false;
      if (steps_.memory == Memory::kDelay && !wanted) has_state = false;  // it leads to no weights
      const bool counts = steps_.counts_in(t, sample, tile.samples);
      if (counts && !steps_.own) read_state(t, tile, has_state, buffers);
      has_state |= counts && !steps_.own;
      if (!counts && !has_state) {
        if (need_x_) write_x(t, tile, nullptr, bytes);
        continue;
      }
      if (steps_.own && counts) {
        read_scores(t, tile, buffers.outputs);
      } else if (steps_.own) {
        clear(buffers.outputs, steps_.own, bytes);
      }
      std::vector<BitRows> words{{bytes_of(inputs_) + t * inputs_.stride(1) * 8 + bit_offset(tile), pitch}};
      const size_t needed = stack_.layers().size() - (steps_.memory == Memory::kMultiplexer && has_state ? 0 : 1);
      for (size_t l = 0; l < needed; l++) {
        visit_all(hard_.wires[l].gates, 8 * kGrain, [&](int64_t begin, int64_t end) {
          evaluate_bits(hard_.wires[l], hard_.ids[l], words[l].data, words[l].pitch, begin, end, buffers.bits[l],
                        kBitRowBytes);
        });
        words.push_back({buffers.bits[l], kBitRowBytes});
      }
      char* of_state = buffers.outputs + steps_.own * kTileBytes;
      if (steps_.memory == Memory::kMultiplexer && has_state) {
        through_multiplexer(words, tile, of_state, buffers.state);
      } else if (steps_.memory == Memory::kGates && has_state) {
        std::memcpy(of_state, buffers.state, static_cast<size_t>(steps_.state * kTileBytes));
      } else {
        clear(of_state, steps_.outputs() - steps_.own, bytes);
      }
      const bool cut = truncate_ && t % truncate_ == 0;
      const bool gives = wanted || (t > 0 && !cut && steps_.memory != Memory::kDelay);
      stack_.send(words, buffers.outputs, 0, buffers.rows, gives ? buffers.inputs : nullptr, kTileBytes, tile, to,
                  visit_all);
      for (BitDestination& layer : to) layer.more = true;
      if (!gives) {
        has_state = false;
        continue;
      }
      if (steps_.memory == Memory::kDelay && has_state) add(buffers.state, buffers.inputs, steps_.state, bytes);
      if (need_x_) write_x(t, tile, buffers.inputs, bytes);
      const char* before = buffers.inputs + steps_.width * kTileBytes;
      if (steps_.memory == Memory::kMultiplexer && has_state) {
        add(before, buffers.state, steps_.state, bytes);
      } else {
        std::memcpy(buffers.state, before, static_cast<size_t>(steps_.state * kTileBytes));
      }
      has_state = true;
    }
    if (!of_initial || !has_state) return;
    for (int64_t s = 0; s < steps_.state; s++) {
      const float* row = row_at(buffers.state, s);
      for (int64_t i = 0; i < tile.samples; i++) of_initial[s] += row[i];
    }
  }

  static float* row_at(char* rows, int64_t row) { return reinterpret_cast<float*>(rows + row * kTileBytes); }
  static const float* row_at(const char* rows, int64_t row) {
    return reinterpret_cast<const float*>(rows + row * kTileBytes);
  }
  static void clear(char* rows, int64_t count, size_t bytes) {
    for (int64_t r = 0; r < count; r++) std::memset(rows + r * kTileBytes, 0, bytes);
  }
  static void add(const char* from, char* to, int64_t count, size_t bytes) {
    const auto numbers = static_cast<int64_t>(bytes) / kFloat;
    for (int64_t r = 0; r < count; r++) {
      const float* row = row_at(from, r);
      float* sum = row_at(to, r);
      for (int64_t i = 0; i < numbers; i++) sum[i] += row[i];
    }
  }

  // The gradient of the counted bits of a class, 0 where a sample does not count or is none.
  void of_class(int64_t t, const Tile& tile, int64_t c, float* row) const {
    const int64_t sample = tile.offset / kFloat, k = grad_.size(2);
    const int64_t at = steps_.readout == Readout::kEvery ? t : 0;
    const float* from = grad_.const_data_ptr<float>();
    std::memset(row, 0, static_cast<size_t>(kTileBytes));
    for (int64_t s = 0; s < tile.samples; s++) {
      if (steps_.counts(t, sample + s)) row[s] = from[((sample + s) * steps_.reads() + at) * k + c] * scale_;
    }
  }
  void read_scores(int64_t t, const Tile& tile, char* rows) const {
    const int64_t k = grad_.size(2), group = steps_.own / k;
    for (int64_t c = 0; c < k; c++) {
      float row[kTileBytes / kFloat];
      of_class(t, tile, c, row);
      for (int64_t g = 0; g < group; g++) std::memcpy(rows + (c * group + g) * kTileBytes, row, sizeof(row));
    }
  }
  void read_state(int64_t t, const Tile& tile, bool has_state, const Buffers& buffers) const {
    const int64_t k = grad_.size(2), group = steps_.state / k;
    for (int64_t c = 0; c < k; c++) {
      float row[kTileBytes / kFloat];
      of_class(t, tile, c, row);
      for (int64_t g = 0; g < group; g++) {
        float* to = row_at(buffers.state, c * group + g);
        for (int64_t i = 0; i < kTileBytes / kFloat; i++) to[i] = has_state ? to[i] + row[i] : row[i];
      }
    }
  }

  // next = update ? candidate : state, of bits.
  void through_multiplexer(const std::vector<BitRows>& words, const Tile& tile, char* of_outputs,
                           char* of_state) const {
    const BitRows& out = words.back();
    const uint8_t* before = words[0].data + steps_.width * words[0].pitch;
    for (int64_t s = 0; s < steps_.state; s++) {
      const uint8_t *u = out.data + (steps_.own + s) * out.pitch, *c = u + steps_.state * out.pitch,
                    *b = before + s * words[0].pitch;
      float *grad = row_at(of_state, s), *to_update = row_at(of_outputs, s),
            *to_candidate = row_at(of_outputs, steps_.state + s);
      for (int64_t i = 0; i < tile.lines * (kLineBytes / kFloat); i++) {
        const auto bit = [i](const uint8_t* row) { return static_cast<float>(row[i / 8] >> (i % 8) & 1); };
        const float g = grad[i], update = bit(u);
        to_update[i] = g * (bit(c) - bit(b));
        to_candidate[i] = g * update;
        grad[i] = g - g * update;
      }
    }
  }

  void write_x(int64_t t, const Tile& tile, const char* rows, size_t bytes) {
    char* to = static_cast<char*>(grad_x_.mutable_data_ptr()) + t * steps_.width * x_pitch_ + tile.offset;
    for (int64_t i = 0; i < steps_.width; i++, to += x_pitch_) {
      if (rows) {
        std::memcpy(to, rows + i * kTileBytes, bytes);
      } else {
        std::memset(to, 0, bytes);
      }
    }
  }

  const Steps steps_;
  const Tensor grad_, inputs_;
  const HardLayers hard_;
  const BitStack stack_;
  const Tiling tiling_;
  const float scale_;
  const int64_t truncate_;
  const bool need_x_, need_initial_;
  Tensor grad_x_, grad_initial_;
  std::vector<Tensor> grad_tables_, grad_logits_;
  int64_t x_pitch_ = 0;
};

std::tuple<Tensor, Tensor, std::vector<Tensor>, std::vector<Tensor>> bit_steps_backward(
    const Tensor& grad, const Tensor& inputs, const Maybe& lengths, TensorList gates, TensorList tables, TensorList a,
    TensorList b, TensorList shares, TensorList candidates, c10::List<bool> of_logits, int64_t own, int64_t state,
    std::string_view memory, std::string_view readout, double tau, int64_t truncate, at::ArrayRef<double> factors,
    bool need_grad_x, bool need_grad_initial) {
  check_layers({tables.size(), gates.size(), a.size(), b.size(), shares.size(), candidates.size(), of_logits.size(),
                factors.size()});
  arguments::bit_steps_backward(grad, inputs, lengths);
  const int64_t batch = grad.size(0);
  check_rows(inputs, batch);
  TORCH_CHECK_VALUE(truncate >= 0, "truncate is negative");
  TORCH_CHECK_VALUE(state <= inputs.size(2), "a step of ", inputs.size(2), " bits has no state of ", state);
  const Steps steps = make_steps(batch, inputs.size(1), inputs.size(2) - state, state, own, memory, readout, lengths);
  TORCH_CHECK_VALUE(grad.size(1) == steps.reads(), "grad has ", grad.size(1), " steps, and the scores ", steps.reads());
  // Words as the forward pass makes them; a copy where a caller brings others.
  const int64_t pitch = bit_pitch(batch), bytes = steps.inputs() * pitch;
  Tensor kept = inputs;
  if (inputs.stride(2) * 8 != pitch || inputs.stride(1) * 8 != bytes || (inputs.size(0) > 1 && inputs.stride(0) != 1) ||
      (inputs.storage_offset() * 8 + steps.count * bytes) > static_cast<int64_t>(inputs.storage().nbytes())) {
    kept = pooled(inputs.sizes(), {1, bytes / 8, pitch / 8}, steps.count * bytes, at::kLong);
    kept.copy_(inputs);
  }
  HardLayers hard = hard_layers(kept.select(1, 0), gates, a, b, candidates);
  check_outputs(steps, hard.wires.back().gates, grad.size(2));
  std::vector<BitLayer> layers;
  for (size_t l = 0; l < tables.size(); l++) {
    arguments::bit_logic_backward_layer(grad.select(1, 0), kept.select(1, 0), tables[l], a[l], b[l], shares[l],
                                        candidates[l]);
    check_learns(shares[l], candidates[l]);
    layers.emplace_back(hard.wires[l], tables[l], shares[l], of_logits[l], factors[l]);
  }
  return StepsBackward(steps, grad, kept, std::move(hard), std::move(layers), tau, truncate, need_grad_x,
                       need_grad_initial)
      .run();
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) { m.impl("bit_steps_backward", &lgn::bit_steps_backward); }
