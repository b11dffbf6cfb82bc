// A stack of straight-through layers that is applied step by step, as one op
// (lgn_lightning/ops/straight_through_steps.py): the forward pass, which keeps the inputs and the state of each step,
// as bits.
#include "straight_through_steps.h"

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

namespace lgn {
namespace {

uint64_t load_word(const uint8_t* from) {
  uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// Scores [batch, reads, k], and the inputs and state of each step as words [rows, steps, width + state], of the last
// step alone if they are not to be kept.
std::tuple<Tensor, Tensor> bit_steps(const Tensor& words, const Maybe& initial, const Maybe& lengths, TensorList gates,
                                     TensorList a, TensorList b, TensorList candidates, int64_t batch, int64_t own,
                                     int64_t state, std::string_view memory, std::string_view readout, int64_t k,
                                     double tau, bool keep) {
  arguments::bit_steps(words, initial, lengths);
  check_rows(words, batch);
  const Steps steps = make_steps(batch, words.size(1), words.size(2), state, own, memory, readout, lengths);
  TORCH_CHECK_VALUE(!initial || initial->size(0) == state, "the initial state has other bits than ", state);
  TORCH_CHECK_VALUE(!lengths || lengths->size(0) == batch, "lengths do not fit a batch of ", batch);
  const int64_t pitch = bit_pitch(batch), in_bytes = steps.inputs() * pitch, kept = keep ? steps.count : 1;
  const Tensor inputs =
      pooled({(batch + 63) / 64, kept, steps.inputs()}, {1, in_bytes / 8, pitch / 8}, kept * in_bytes, at::kLong);
  const HardLayers layers = hard_layers(inputs.select(1, 0), gates, a, b, candidates);
  check_outputs(steps, layers.wires.back().gates, k);
  const Tensor x = copy_words(words.reshape({words.size(0), steps.count * steps.width}), batch);
  const Tensor scores = at::zeros({batch, steps.reads(), k}, at::device(at::kCPU).dtype(at::kFloat));
  if (batch == 0) return {scores, inputs};
  auto* to_inputs = static_cast<uint8_t*>(inputs.mutable_data_ptr());
  std::vector<Tensor> outs;
  for (const BitWires& layer : layers.wires) outs.push_back(new_words(batch, layer.gates));
  const int64_t state_bytes = steps.state * pitch;
  const Tensor next = new_words(batch, steps.state);
  auto* following = static_cast<uint8_t*>(next.mutable_data_ptr());
  const Tensor first = initial ? initial->to(at::kFloat).contiguous() : Tensor();
  for (int64_t s = 0; s < steps.state; s++) {
    const bool one = initial && first.const_data_ptr<float>()[s] > 0.5f;
    std::memset(following + s * pitch, one ? 0xff : 0, static_cast<size_t>(pitch));
  }
  const int64_t group = steps.counted() / k;
  float* to_scores = scores.mutable_data_ptr<float>();
  for (int64_t t = 0; t < steps.count; t++) {
    uint8_t* into = to_inputs + (keep ? t * in_bytes : 0);
    std::memcpy(into, bytes_of(x) + t * steps.width * pitch, static_cast<size_t>(steps.width * pitch));
    std::memcpy(into + steps.width * pitch, following, static_cast<size_t>(state_bytes));
    const bool read = steps.counts_in(t, 0, batch);
    if (read || steps.memory != Memory::kDelay) {
      const uint8_t* from = into;
      for (size_t l = 0; l < outs.size(); l++) {
        auto* out = static_cast<uint8_t*>(outs[l].mutable_data_ptr());
        parallel_for(layers.wires[l].gates, word_grain((batch + 63) / 64), [&](int64_t begin, int64_t end) {
          evaluate_bits(layers.wires[l], layers.ids[l], from, pitch, begin, end, out, pitch);
        });
        from = out;
      }
    }
    const uint8_t* out = bytes_of(outs.back());
    const uint8_t* rest = out + steps.own * pitch;
    if (steps.memory == Memory::kDelay) {
      std::memcpy(following, into, static_cast<size_t>(state_bytes));
    } else if (steps.memory == Memory::kGates) {
      std::memcpy(following, rest, static_cast<size_t>(state_bytes));
    } else {
      const uint8_t* before = into + steps.width * pitch;
      for (int64_t byte = 0; byte < state_bytes; byte += 8) {
        const uint64_t kept_bits = load_word(before + byte), candidate = load_word(rest + state_bytes + byte);
        const uint64_t taken = kept_bits ^ (load_word(rest + byte) & (kept_bits ^ candidate));
        std::memcpy(following + byte, &taken, sizeof(taken));
      }
    }
    if (!read) continue;
    const uint8_t* counted = steps.own ? out : following;
    const int64_t at = steps.readout == Readout::kEvery ? t : 0;
    parallel_for((batch + 63) / 64 * k, word_grain(group), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t word = task / k, c = task % k;
        int32_t found[64];
        kernels().bits.count(counted, pitch, word * 8, c * group, (c + 1) * group, found);
        for (int64_t s = word * 64; s < std::min(word * 64 + 64, batch); s++) {
          if (steps.counts(t, s)) to_scores[(s * steps.reads() + at) * k + c] += static_cast<float>(found[s % 64]);
        }
      }
    });
  }
  const auto divisor = static_cast<float>(tau);
  for (int64_t s = 0; s < scores.numel(); s++) to_scores[s] /= divisor;
  return {scores, inputs};
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) { m.impl("bit_steps", &lgn::bit_steps); }
