// A stack of straight-through layers in the backward pass, shared by the op of one pass and by that of many steps.
//
// Gradients live in two buffers of one layer's tile, whatever the batch: a tile goes through all layers before the
// next.
#pragma once

#include <cstring>
#include <utility>

#include "bits_tensors.h"

namespace lgn {

constexpr int64_t kTileBytes = kTileLines * kLineBytes;
constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));

// The wires of a layer, whose indices it checks.
struct BitWires {
  Tensor a, b, candidates;
  int64_t inputs, gates;

  BitWires(const Tensor& a_in, const Tensor& b_in, const Tensor& candidates_in, int64_t inputs_in)
      : a(a_in.contiguous()),
        b(b_in.contiguous()),
        candidates(candidates_in.contiguous()),
        inputs(inputs_in),
        gates(a_in.numel()) {
    check_wires(a, b, inputs);
  }
  // Whether the wires are chosen among candidates, [n, 2, count]; other layers have none.
  bool learned() const { return candidates.numel() > 0; }
};

// The gates of a layer from rows of bits at `in` to those at `out`.
inline void evaluate_bits(const BitWires& layer, const Tensor& ids, const uint8_t* in, int64_t in_pitch, int64_t begin,
                          int64_t end, uint8_t* out, int64_t out_pitch) {
  kernels().bit_layer.forward(in, in_pitch, ids.const_data_ptr<uint8_t>(), layer.a.const_data_ptr<int32_t>(),
                              layer.b.const_data_ptr<int32_t>(), begin, end, out, out_pitch);
}

// A layer as the backward pass takes it: its soft table, which may be given as logits, the shares of its candidates if
// their gradients are wanted, and what the gradient of its inputs is multiplied by.
struct BitLayer : BitWires {
  Tensor table, shares;
  bool of_logits;
  float factor;
  std::shared_ptr<const Plan> plan;  // of fixed wires

  BitLayer(const BitWires& wires, const Tensor& table_in, const Tensor& shares_in, bool of_logits_in, double factor_in)
      : BitWires(wires),
        table(table_in.contiguous()),
        shares(shares_in.to(at::kFloat).contiguous()),
        of_logits(of_logits_in),
        factor(static_cast<float>(factor_in)) {
    if (learns()) check_candidates(candidates, inputs);
    if (!learned()) plan = plan_of(a, b, inputs);
    if (!of_logits) return;
    const Tensor logits = table;
    table = new_rows(gates, 4, at::kFloat);
    const float* from = logits.const_data_ptr<float>();
    float* to = table.mutable_data_ptr<float>();
    parallel_for(4 * gates, 16 * kGrain,
                 [&](int64_t begin, int64_t end) { kernels().bit_layer.sigmoid(from, begin, end, to); });
  }
  // Whether the gradients of its logits are wanted; without, its wires are those of this step all the same.
  bool learns() const { return shares.numel() > 0; }
  int64_t side_rows() const { return learned() ? 0 : plan->side_rows; }
  // From the gradient of the table to that of what was given for it.
  void finish(const Tensor& grad) const {
    if (!of_logits) return;
    const float* from = table.const_data_ptr<float>();
    float* to = grad.mutable_data_ptr<float>();
    parallel_for(4 * gates, 16 * kGrain,
                 [&](int64_t begin, int64_t end) { kernels().bit_layer.sigmoid_backward(from, begin, end, to); });
  }
};

// Rows of bits.
struct BitRows {
  const uint8_t* data;
  int64_t pitch;
};

// Where the gradients of a layer's parameters go.
struct BitDestination {
  TableRows table;
  const float* shares;
  float* candidates;
  bool more;  // as of Candidates
};

// Layers, and how a tile's gradient goes through them.
class BitStack {
 public:
  // With `gives_inputs` it can give the gradient of the first layer's inputs.
  BitStack(std::vector<BitLayer> layers, bool gives_inputs) : layers_(std::move(layers)), gives_inputs_(gives_inputs) {
    for (size_t l = 1; l < layers_.size(); l++) widest_ = std::max(widest_, layers_[l].inputs + layers_[l].side_rows());
    list_all_uses();
  }
  const std::vector<BitLayer>& layers() const { return layers_; }
  // Rows of a tile that `send` works in, of each of two buffers.
  int64_t widest() const { return widest_; }

  // Sends a tile from the gradient of the outputs, one row a gate or, if `group` is set, one for so many, to that of
  // the inputs at `out`, if it is not null. `words` are the packed inputs of each layer, from the tile's first bit on.
  // `visit_all(count, grain, visit)` calls visit for ranges of 0 … count-1.
  template <typename VisitAll>
  void send(const std::vector<BitRows>& words, char* grad, int64_t group, char* const (&buffers)[2], char* out,
            int64_t out_pitch, const Tile& tile, const std::vector<BitDestination>& to,
            const VisitAll& visit_all) const {
    const Tile here{0, tile.lines, tile.samples};
    // The gradients of a layer's outputs: rows, or, of a learned layer above, what they are pulled from.
    bool pulls = false;
    PulledRows above{};
    const auto pull_all = [&](int64_t rows, char* pulled, int64_t pitch) {
      visit_all(rows, kGrain,
                [&](int64_t begin, int64_t end) { kernels().bit_layer.pull(above, begin, end, pulled, pitch, here); });
    };
    for (size_t l = layers_.size(); l-- > 0;) {
      const BitLayer& layer = layers_[l];
      const int64_t of_group = l + 1 == layers_.size() ? group : 0;
      if (layer.learned()) {
        if (pulls && l == 0 && !out) grad = nullptr;
        const Candidates candidates{layer.candidates.const_data_ptr<int32_t>(), layer.candidates.size(2), to[l].shares,
                                    to[l].candidates, to[l].more};
        const BitGates gates{words[l].data, words[l].pitch, layer.a.const_data_ptr<int32_t>(),
                             layer.b.const_data_ptr<int32_t>(), layer.table.const_data_ptr<float>()};
        visit_all(layer.gates, kGrain / candidates.count + 1, [&](int64_t begin, int64_t end) {
          kernels().bit_layer.learned(gates, candidates, pulls ? &above : nullptr, grad, kTileBytes, of_group, begin,
                                      end, to[l].table, here);
        });
        above = {gates, layer.factor, grad, kTileBytes, of_group, nullptr, nullptr};
        if (uses_[l].defined()) {
          above.uses = static_cast<const BitUse*>(uses_[l].const_data_ptr());
          above.begin = begin_[l].const_data_ptr<int32_t>();
        }
        pulls = true;
      } else {
        if (pulls) pull_all(layer.gates, grad, kTileBytes);
        pulls = false;
        const GradRows rows{l > 0 ? buffers[l % 2] : out, l > 0 ? kTileBytes : out_pitch, nullptr, false};
        walk(layer, words[l], grad, of_group, rows, to[l].table, here, visit_all);
      }
      grad = buffers[l % 2];
    }
    if (pulls && out) pull_all(layers_[0].inputs, out, out_pitch);
  }

 private:
  // Of learned layers, who reads which input.
  void list_all_uses() {
    const int32_t* above = nullptr;
    uses_.resize(layers_.size());
    begin_.resize(layers_.size());
    for (size_t l = layers_.size(); l-- > 0;) {
      const BitLayer& layer = layers_[l];
      if (layer.learned() && (l > 0 || gives_inputs_)) {
        begin_[l] = new_rows(1, layer.inputs + 1, at::kInt);
        uses_[l] = new_rows(2 * layer.gates + kUsesAhead, sizeof(BitUse) / sizeof(int32_t), at::kInt);
        list_uses(layer.a.const_data_ptr<int32_t>(), layer.b.const_data_ptr<int32_t>(), layer.gates, layer.inputs,
                  above, begin_[l].mutable_data_ptr<int32_t>(), static_cast<BitUse*>(uses_[l].mutable_data_ptr()));
      }
      above = layer.learned() && l > 0 ? begin_[l].const_data_ptr<int32_t>() : nullptr;
    }
  }

  // A layer of fixed wires.
  template <typename VisitAll>
  static void walk(const BitLayer& layer, const BitRows& words, const char* grad, int64_t group, const GradRows& rows,
                   const TableRows& table, const Tile& tile, const VisitAll& visit_all) {
    const Plan& plan = *layer.plan;
    const bool stream = layer.inputs * tile.lines * kLineBytes >= kStreamBackward && plan.revisits * 16 < layer.gates;
    visit_all(static_cast<int64_t>(plan.chunks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        const Chunk& chunk = plan.chunks[static_cast<size_t>(c)];
        GradRows of_chunk = rows;
        of_chunk.side = plan.side_list.data() + chunk.side_begin;
        kernels().bit_layer.backward(words.data, words.pitch, grad, kTileBytes, group,
                                     layer.table.const_data_ptr<float>(), layer.factor, plan.steps.data() + chunk.begin,
                                     chunk.end - chunk.begin, of_chunk, table, tile, stream);
      }
    });
    if (rows.data == nullptr) return;
    for (const Plan::Merge& merge : plan.merges) {
      kernels().f32.add_row(rows.data + merge.side * rows.pitch, rows.data + merge.row * rows.pitch, false, tile);
    }
    for (const int32_t i : plan.unused) {
      std::memset(rows.data + i * rows.pitch, 0, static_cast<size_t>(tile.lines * kLineBytes));
    }
  }

  const std::vector<BitLayer> layers_;
  const bool gives_inputs_;
  std::vector<Tensor> uses_, begin_;  // of learned layers whose inputs want a gradient
  int64_t widest_ = 0;
};

// The gradients of a stack's parameters, summed by slabs of the batch that threads share, each with sums of its own, so
// that they do not depend on the number of threads.
class BitSums {
 public:
  BitSums(const std::vector<BitLayer>& layers, int64_t slabs) : layers_(layers), slabs_(slabs) {
    for (const BitLayer& layer : layers) {
      sums_.push_back(new_rows(slabs * layer.gates, 4, at::kFloat));
      shares_.push_back(new_rows(slabs, layer.shares.numel(), at::kFloat));
    }
  }
  // Where a slab's go; its tables are zero then, and the first that is given to the candidates replaces what is there.
  std::vector<BitDestination> of_slab(int64_t slab) const {
    std::vector<BitDestination> to;
    for (size_t l = 0; l < layers_.size(); l++) {
      const int64_t bytes = layers_[l].gates * 4 * kFloat;
      char* of_table = static_cast<char*>(sums_[l].mutable_data_ptr()) + slab * bytes;
      std::memset(of_table, 0, static_cast<size_t>(bytes));
      float* of_shares =
          layers_[l].learns() ? shares_[l].mutable_data_ptr<float>() + slab * shares_[l].size(1) : nullptr;
      to.push_back({{of_table, true}, nullptr, of_shares, false});
    }
    return to;
  }
  // Gives the gradients of the tables and of the logits of candidates.
  void finish(const std::vector<Tensor>& grad_tables, const std::vector<Tensor>& grad_logits) const {
    for (size_t l = 0; l < layers_.size(); l++) {
      const void* from = sums_[l].const_data_ptr();
      void* to = grad_tables[l].mutable_data_ptr();
      parallel_for(layers_[l].gates, kGrain, [&](int64_t begin, int64_t end) {
        kernels().f32.table_gradient(from, slabs_, layers_[l].gates, begin, end, to);
      });
      if (layers_[l].learns()) finish_shares(shares_[l], layers_[l].shares, grad_logits[l]);
    }
  }

 private:
  // From the slabs' gradients of shares to those of the logits.
  static void finish_shares(const Tensor& slabs, const Tensor& shares, const Tensor& to) {
    const int64_t numel = to.numel(), count = to.size(2);
    const float* from = slabs.const_data_ptr<float>();
    float* sum = to.mutable_data_ptr<float>();
    parallel_for(numel / count, whole_vectors(16 * kGrain / count), [&](int64_t first, int64_t last) {
      const int64_t begin = first * count, end = last * count;
      std::memcpy(sum + begin, from + begin, static_cast<size_t>((end - begin) * kFloat));
      for (int64_t slab = 1; slab < slabs.size(0); slab++) {
        for (int64_t k = begin; k < end; k++) sum[k] += from[slab * numel + k];
      }
      kernels().choice.choose_backward(sum, shares.const_data_ptr<float>(), count, first, last, sum);
    });
  }

  const std::vector<BitLayer>& layers_;
  const int64_t slabs_;
  std::vector<Tensor> sums_, shares_;
};

// Empty gradients of the parameters of layers: of the tables, and of the logits of candidates.
inline std::pair<std::vector<Tensor>, std::vector<Tensor>> new_gradients(const std::vector<BitLayer>& layers) {
  std::vector<Tensor> tables, logits;
  for (const BitLayer& layer : layers) {
    tables.push_back(new_rows(layer.gates, 4, at::kFloat));
    logits.push_back(layer.learns() ? new_shares(layer.candidates) : new_rows(1, 0, at::kFloat).view({0}));
  }
  return {std::move(tables), std::move(logits)};
}

}  // namespace lgn
