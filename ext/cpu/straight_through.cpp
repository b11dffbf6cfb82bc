// A stack of straight-through layers and a group sum as one op (lgn_lightning/ops/straight_through.py).
//
// The forward pass leaves nothing but bits. The backward pass takes the batch in tiles and sends each through all
// layers before the next one, so that gradients live in two buffers of one layer's tile, whatever the batch.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <tuple>

#include "bits_tensors.h"

namespace lgn {
namespace {

using at::TensorList;

constexpr int64_t kTileBytes = kTileLines * kLineBytes;
constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));

Tensor gate_ids(const Tensor& logits) {
  arguments::gate_ids(logits);
  check_gate_logits(logits);
  const Tensor source = logits.to(at::kFloat).contiguous();
  Tensor ids = at::empty({source.size(0)}, at::device(at::kCPU).dtype(at::kByte));
  const float* from = source.const_data_ptr<float>();
  uint8_t* to = ids.mutable_data_ptr<uint8_t>();
  parallel_for(source.size(0), 4 * kGrain,
               [&](int64_t begin, int64_t end) { kernels().bit_layer.gate_ids(from, source.size(1), begin, end, to); });
  return ids;
}

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

// A layer as the backward pass takes it: its packed inputs, its soft table, which may be given as logits, the shares of
// its candidates if their gradients are wanted, and what the gradient of its inputs is multiplied by.
struct BitLayer : BitWires {
  Tensor words, table, shares;
  bool of_logits;
  float factor;
  std::shared_ptr<const Plan> plan;  // of fixed wires

  BitLayer(const BitWires& wires, const Tensor& words_in, const Tensor& table_in, const Tensor& shares_in,
           bool of_logits_in, double factor_in)
      : BitWires(wires),
        words(words_in),
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
  BitGates on_words() const {
    return {bytes_of(words), pitch_of(words), a.const_data_ptr<int32_t>(), b.const_data_ptr<int32_t>(),
            table.const_data_ptr<float>()};
  }
  // From the gradient of the table to that of what was given for it.
  void finish(const Tensor& grad) const {
    if (!of_logits) return;
    const float* from = table.const_data_ptr<float>();
    float* to = grad.mutable_data_ptr<float>();
    parallel_for(4 * gates, 16 * kGrain,
                 [&](int64_t begin, int64_t end) { kernels().bit_layer.sigmoid_backward(from, begin, end, to); });
  }
};

std::tuple<Tensor, std::vector<Tensor>> bit_logic(const Tensor& x, TensorList gates, TensorList a, TensorList b,
                                                  TensorList candidates, int64_t k, double tau,
                                                  const std::optional<Tensor>& packed) {
  check_layers({gates.size(), a.size(), b.size(), candidates.size()});
  arguments::bit_logic(x, packed);
  const int64_t batch = x.size(0);
  if (packed) check_words(*packed, batch, x.size(1));
  std::vector<Tensor> words{packed ? copy_words(*packed, batch) : pack(x)};
  for (size_t l = 0; l < gates.size(); l++) {
    arguments::bit_logic_layer(words.back(), gates[l], a[l], b[l], candidates[l]);
    const BitWires layer(a[l], b[l], candidates[l], words.back().size(1));
    if (layer.learned()) check_candidates(layer.candidates, layer.inputs);
    const Tensor ids = gates[l].contiguous();
    const Tensor& in = words.back();
    Tensor out = new_words(batch, layer.gates);
    auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
    parallel_for(batch > 0 ? layer.gates : 0, word_grain((batch + 63) / 64), [&](int64_t begin, int64_t end) {
      kernels().bit_layer.forward(bytes_of(in), pitch_of(in), ids.const_data_ptr<uint8_t>(),
                                  layer.a.const_data_ptr<int32_t>(), layer.b.const_data_ptr<int32_t>(), begin, end, to,
                                  bit_pitch(batch));
    });
    words.push_back(std::move(out));
  }
  const Tensor last = std::move(words.back());
  words.pop_back();
  check_groups(last.size(1), k);
  Tensor scores = at::zeros({batch, k}, at::device(at::kCPU).dtype(at::kFloat));
  const int64_t group = last.size(1) / k;
  if (batch > 0 && group > 0) {
    float* to = scores.mutable_data_ptr<float>();
    parallel_for((batch + 63) / 64 * k, word_grain(group), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t word = task / k, c = task % k;
        int32_t counts[64];
        kernels().bits.count(bytes_of(last), pitch_of(last), word * 8, c * group, (c + 1) * group, counts);
        for (int64_t s = 0; s < 64 && word * 64 + s < batch; s++) {
          to[(word * 64 + s) * k + c] = static_cast<float>(counts[s]) / static_cast<float>(tau);
        }
      }
    });
  }
  return {scores, words};
}

// The gradient of the scores of one tile: a row a class, 0 where no sample is.
void unpack_scores(const float* grad, int64_t s0, int64_t s1, int64_t classes, float scale, const Tile& tile,
                   char* out) {
  const int64_t first = tile.offset / kFloat;
  std::memset(out, 0, static_cast<size_t>(classes * kTileBytes));
  for (int64_t s = 0; s < tile.samples; s++) {
    for (int64_t c = 0; c < classes; c++) {
      const float value = grad[(first + s) * s0 + c * s1] * scale;
      std::memcpy(out + c * kTileBytes + s * kFloat, &value, sizeof(value));
    }
  }
}

// The backward pass of a stack, tile by tile.
class BitBackward {
 public:
  BitBackward(const Tensor& grad, std::vector<BitLayer> layers, double tau, bool need_grad_x)
      : grad_(grad.to(at::kFloat)),
        scale_(static_cast<float>(1.0 / tau)),
        tiling_(grad.size(0), kFloat),
        layers_(std::move(layers)) {
    for (size_t l = 0; l < layers_.size(); l++) {
      const BitLayer& layer = layers_[l];
      grad_tables_.push_back(new_rows(layer.gates, 4, at::kFloat));
      grad_logits_.push_back(layer.learns() ? new_shares(layer.candidates) : at::empty({0}, grad_.options()));
      if (l > 0) widest_ = std::max(widest_, layer.inputs + layer.side_rows());
    }
    grad_x_ = at::empty({0}, at::device(at::kCPU).dtype(at::kFloat));
    if (need_grad_x) {
      // Side rows lie behind the tensor, in the same storage.
      const BitLayer& first = layers_.front();
      const Tensor rows = new_feature_major(batch(), first.inputs + first.side_rows(), at::kFloat);
      grad_x_ = rows.narrow(1, 0, first.inputs);
      out_ = static_cast<char*>(rows.mutable_data_ptr());
      out_pitch_ = rows.stride(1) * kFloat;
    }
    list_all_uses();
  }

  // Those of x, of the tables and of the logits.
  std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>> run() {
    if (batch() == 0) {
      for (Tensor& t : grad_tables_) t.zero_();
      for (Tensor& t : grad_logits_) t.zero_();
    } else if (tiling_.tiles.size() == 1) {
      one_tile();
    } else {
      many_tiles();
    }
    for (size_t l = 0; l < layers_.size(); l++) layers_[l].finish(grad_tables_[l]);
    return {grad_x_, grad_tables_, grad_logits_};
  }

 private:
  int64_t batch() const { return grad_.size(0); }
  int64_t classes() const { return grad_.size(1); }

  // A row a class for the scores, and two of one layer's tile.
  struct Buffers {
    Tensor owner;
    char* compact;
    char* rows[2];
  };
  Buffers new_buffers() const {
    const int64_t compact = classes() * kTileBytes, rows = widest_ * kTileBytes;
    const Tensor owner = pooled({1}, {1}, compact + 2 * rows, at::kByte);
    char* data = static_cast<char*>(owner.mutable_data_ptr());
    return {owner, data, {data + compact, data + compact + rows}};
  }

  // Of learned layers, who reads which input.
  void list_all_uses() {
    const int32_t* above = nullptr;
    uses_.resize(layers_.size());
    begin_.resize(layers_.size());
    for (size_t l = layers_.size(); l-- > 0;) {
      const BitLayer& layer = layers_[l];
      if (layer.learned() && (l > 0 || out_)) {
        begin_[l] = new_rows(1, layer.inputs + 1, at::kInt);
        uses_[l] = new_rows(2 * layer.gates + kUsesAhead, sizeof(BitUse) / sizeof(int32_t), at::kInt);
        list_uses(layer.a.const_data_ptr<int32_t>(), layer.b.const_data_ptr<int32_t>(), layer.gates, layer.inputs,
                  above, begin_[l].mutable_data_ptr<int32_t>(), static_cast<BitUse*>(uses_[l].mutable_data_ptr()));
      }
      above = layer.learned() && l > 0 ? begin_[l].const_data_ptr<int32_t>() : nullptr;
    }
  }

  // Where the gradients of a layer's parameters go.
  struct Destination {
    TableRows table;
    const float* shares;
    float* candidates;
    bool more;  // as of Candidates
  };

  // Sends a tile from the scores to the inputs. `visit_all(count, grain, visit)` calls visit for ranges of 0 … count-1.
  template <typename VisitAll>
  void send(const Tile& tile, const Buffers& buffers, const std::vector<Destination>& to,
            const VisitAll& visit_all) const {
    unpack_scores(grad_.const_data_ptr<float>(), grad_.stride(0), grad_.stride(1), classes(), scale_, tile,
                  buffers.compact);
    // The gradients of a layer's outputs: rows, or, of a learned layer above, what they are pulled from.
    char* grad = buffers.compact;
    bool pulls = false;
    PulledRows above{};
    const auto pull_all = [&](int64_t rows, char* out, int64_t pitch) {
      visit_all(rows, kGrain,
                [&](int64_t begin, int64_t end) { kernels().bit_layer.pull(above, begin, end, out, pitch, tile); });
    };
    for (size_t l = layers_.size(); l-- > 0;) {
      const BitLayer& layer = layers_[l];
      const int64_t group = l + 1 == layers_.size() ? layer.gates / classes() : 0;
      if (layer.learned()) {
        if (pulls && l == 0 && !out_) grad = nullptr;
        const Candidates candidates{layer.candidates.const_data_ptr<int32_t>(), layer.candidates.size(2), to[l].shares,
                                    to[l].candidates, to[l].more};
        const BitGates gates = layer.on_words();
        visit_all(layer.gates, kGrain / candidates.count + 1, [&](int64_t begin, int64_t end) {
          kernels().bit_layer.learned(gates, candidates, pulls ? &above : nullptr, grad, kTileBytes, group, begin, end,
                                      to[l].table, tile);
        });
        above = {gates, layer.factor, grad, kTileBytes, group, nullptr, nullptr};
        if (uses_[l].defined()) {
          above.uses = static_cast<const BitUse*>(uses_[l].const_data_ptr());
          above.begin = begin_[l].const_data_ptr<int32_t>();
        }
        pulls = true;
      } else {
        if (pulls) pull_all(layer.gates, grad, kTileBytes);
        pulls = false;
        const GradRows rows{l > 0  ? buffers.rows[l % 2]
                            : out_ ? out_ + tile.offset
                                   : nullptr,
                            l > 0 ? kTileBytes : out_pitch_, nullptr, false};
        walk(layer, grad, group, rows, to[l].table, tile, visit_all);
      }
      grad = buffers.rows[l % 2];
    }
    if (pulls && out_) pull_all(layers_[0].inputs, out_ + tile.offset, out_pitch_);
  }

  // A layer of fixed wires.
  template <typename VisitAll>
  static void walk(const BitLayer& layer, const char* grad, int64_t group, const GradRows& rows, const TableRows& table,
                   const Tile& tile, const VisitAll& visit_all) {
    const Plan& plan = *layer.plan;
    visit_all(static_cast<int64_t>(plan.chunks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        const Chunk& chunk = plan.chunks[static_cast<size_t>(c)];
        GradRows of_chunk = rows;
        of_chunk.side = plan.side_list.data() + chunk.side_begin;
        kernels().bit_layer.backward(bytes_of(layer.words), pitch_of(layer.words), grad, kTileBytes, group,
                                     layer.table.const_data_ptr<float>(), layer.factor, plan.steps.data() + chunk.begin,
                                     chunk.end - chunk.begin, of_chunk, table, tile);
      }
    });
    if (rows.data == nullptr) return;
    const Tile here{0, tile.lines, tile.samples};
    for (const Plan::Merge& merge : plan.merges) {
      kernels().f32.add_row(rows.data + merge.side * rows.pitch, rows.data + merge.row * rows.pitch, false, here);
    }
    for (const int32_t i : plan.unused) {
      std::memset(rows.data + i * rows.pitch, 0, static_cast<size_t>(tile.lines * kLineBytes));
    }
  }

  // Threads share the gates of each layer in turn.
  void one_tile() {
    std::vector<Destination> to;
    for (size_t l = 0; l < layers_.size(); l++) {
      const bool learns = layers_[l].learns();
      to.push_back({{grad_tables_[l].mutable_data_ptr(), false},
                    learns ? layers_[l].shares.const_data_ptr<float>() : nullptr,
                    learns ? grad_logits_[l].mutable_data_ptr<float>() : nullptr,
                    false});
    }
    send(tiling_.tiles[0], new_buffers(), to,
         [](int64_t count, int64_t grain, const auto& visit) { parallel_for(count, grain, visit); });
  }

  // Threads share the slabs of the batch, each with sums of its own.
  void many_tiles() {
    std::vector<Tensor> sums, shares;
    for (size_t l = 0; l < layers_.size(); l++) {
      sums.push_back(new_rows(tiling_.slabs * layers_[l].gates, 4, at::kFloat));
      shares.push_back(new_rows(tiling_.slabs, layers_[l].shares.numel(), at::kFloat));
    }
    parallel_for(tiling_.slabs, 1, [&](int64_t begin, int64_t end) {
      const Buffers buffers = new_buffers();
      for (int64_t slab = begin; slab < end; slab++) {
        std::vector<Destination> to;
        for (size_t l = 0; l < layers_.size(); l++) {
          const int64_t bytes = layers_[l].gates * 4 * kFloat;
          char* of_table = static_cast<char*>(sums[l].mutable_data_ptr()) + slab * bytes;
          std::memset(of_table, 0, static_cast<size_t>(bytes));
          float* of_shares =
              layers_[l].learns() ? shares[l].mutable_data_ptr<float>() + slab * shares[l].size(1) : nullptr;
          to.push_back({{of_table, true}, nullptr, of_shares, false});
        }
        const auto first = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab)]);
        const auto last = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab) + 1]);
        for (size_t t = first; t < last; t++) {
          for (Destination& layer : to) layer.more = t > first;
          send(tiling_.tiles[t], buffers, to,
               [](int64_t count, int64_t, const auto& visit) { visit(int64_t{0}, count); });
        }
      }
    });
    for (size_t l = 0; l < layers_.size(); l++) {
      const void* from = sums[l].const_data_ptr();
      void* to = grad_tables_[l].mutable_data_ptr();
      parallel_for(layers_[l].gates, kGrain, [&](int64_t begin, int64_t end) {
        kernels().f32.table_gradient(from, tiling_.slabs, layers_[l].gates, begin, end, to);
      });
      if (layers_[l].learns()) finish(shares[l], layers_[l].shares, grad_logits_[l]);
    }
  }

  // From the slabs' gradients of shares to those of the logits.
  static void finish(const Tensor& slabs, const Tensor& shares, const Tensor& to) {
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

  const Tensor grad_;
  const float scale_;
  const Tiling tiling_;
  const std::vector<BitLayer> layers_;
  Tensor grad_x_;
  std::vector<Tensor> grad_tables_, grad_logits_;
  std::vector<Tensor> uses_, begin_;  // of learned layers whose inputs want a gradient
  int64_t widest_ = 0;
  char* out_ = nullptr;
  int64_t out_pitch_ = 0;
};

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>> bit_logic_backward(
    const Tensor& grad, TensorList words, TensorList tables, TensorList a, TensorList b, TensorList shares,
    TensorList candidates, c10::List<bool> of_logits, double tau, at::ArrayRef<double> factors, bool need_grad_x) {
  check_layers({tables.size(), a.size(), b.size(), words.size(), shares.size(), candidates.size(), of_logits.size(),
                factors.size()});
  arguments::bit_logic_backward(grad);
  check_groups(a.back().numel(), grad.size(1));
  std::vector<BitLayer> layers;
  for (size_t l = 0; l < tables.size(); l++) {
    arguments::bit_logic_backward_layer(grad, words[l], tables[l], a[l], b[l], shares[l], candidates[l]);
    check_learns(shares[l], candidates[l]);
    check_words(words[l], grad.size(0), l > 0 ? a[l - 1].numel() : words[0].size(1));
    const Tensor bits = whole_rows(words[l], grad.size(0));
    layers.emplace_back(BitWires(a[l], b[l], candidates[l], bits.size(1)), bits, tables[l], shares[l], of_logits[l],
                        factors[l]);
  }
  return BitBackward(grad, std::move(layers), tau, need_grad_x).run();
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("gate_ids", &lgn::gate_ids);
  m.impl("bit_logic", &lgn::bit_logic);
  m.impl("bit_logic_backward", &lgn::bit_logic_backward);
}
