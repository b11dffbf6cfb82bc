// What a stack of straight-through layers that is applied step by step has in both of its passes.
#pragma once

#include "straight_through_stack.h"

namespace lgn {

using at::TensorList;
typedef std::optional<Tensor> Maybe;

enum class Memory { kGates, kMultiplexer, kDelay };
enum class Readout { kLast, kSum, kEvery };

// What all steps have in common.
struct Steps {
  int64_t batch, count, width, state, own;
  Memory memory;
  Readout readout;
  Tensor lengths;  // int64 [batch], or undefined

  int64_t inputs() const { return width + state; }
  int64_t outputs() const {
    return own + state * (memory == Memory::kGates ? 1 : memory == Memory::kMultiplexer ? 2 : 0);
  }
  // Bits that are counted.
  int64_t counted() const { return own ? own : state; }
  int64_t reads() const { return readout == Readout::kEvery ? count : 1; }
  // Whether a step counts in the score of a sample.
  bool counts(int64_t t, int64_t sample) const {
    if (readout == Readout::kEvery) return true;
    if (!lengths.defined()) return readout == Readout::kSum || t + 1 == count;
    const int64_t length = lengths.const_data_ptr<int64_t>()[sample];
    return readout == Readout::kSum ? t < length : t + 1 == length;
  }
  // And in that of any of some.
  bool counts_in(int64_t t, int64_t begin, int64_t samples) const {
    if (!lengths.defined()) return samples > 0 && counts(t, begin);
    for (int64_t s = 0; s < samples; s++) {
      if (counts(t, begin + s)) return true;
    }
    return false;
  }
};

inline Steps make_steps(int64_t batch, int64_t count, int64_t width, int64_t state, int64_t own,
                        std::string_view memory, std::string_view readout, const Maybe& lengths) {
  TORCH_CHECK_VALUE(memory == "gates" || memory == "multiplexer" || memory == "delay", "memory is none of gates, ",
                    "multiplexer, delay");
  TORCH_CHECK_VALUE(readout == "last" || readout == "sum" || readout == "every", "readout is none of last, sum, every");
  TORCH_CHECK_VALUE(count > 0 && width >= 0 && state > 0 && own >= 0 && (own > 0 || memory != "delay"),
                    "steps = ", count, ", width = ", width, ", state = ", state, " and own = ", own, " make no cell");
  return {batch,
          count,
          width,
          state,
          own,
          memory == "gates"         ? Memory::kGates
          : memory == "multiplexer" ? Memory::kMultiplexer
                                    : Memory::kDelay,
          readout == "last"  ? Readout::kLast
          : readout == "sum" ? Readout::kSum
                             : Readout::kEvery,
          lengths ? lengths->contiguous() : Tensor()};
}

inline void check_outputs(const Steps& steps, int64_t gates, int64_t k) {
  TORCH_CHECK_VALUE(gates == steps.outputs(), "the last layer gives ", gates, " bits, and a step has ",
                    steps.outputs());
  check_groups(steps.counted(), k);
}

// Layers as the forward pass evaluates them.
struct HardLayers {
  std::vector<BitWires> wires;
  std::vector<Tensor> ids;
};

inline HardLayers hard_layers(const Tensor& words, TensorList gates, TensorList a, TensorList b,
                              TensorList candidates) {
  check_layers({gates.size(), a.size(), b.size(), candidates.size()});
  HardLayers layers;
  int64_t inputs = words.size(1);
  for (size_t l = 0; l < gates.size(); l++) {
    arguments::bit_logic_layer(words, gates[l], a[l], b[l], candidates[l]);
    layers.wires.emplace_back(a[l], b[l], candidates[l], inputs);
    if (layers.wires.back().learned()) check_candidates(layers.wires.back().candidates, inputs);
    layers.ids.push_back(gates[l].contiguous());
    inputs = layers.wires.back().gates;
  }
  return layers;
}

}  // namespace lgn
