// A stack of straight-through layers and a group sum as one op (lgn_lightning/ops/straight_through.py).
//
// The forward pass leaves nothing but bits. The backward pass takes the batch in tiles and sends each through all
// layers before the next one, so that gradients live in two buffers of one layer's tile, whatever the batch.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "straight_through_stack.h"

namespace lgn {
namespace {

using at::TensorList;

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
      evaluate_bits(layer, ids, bytes_of(in), pitch_of(in), begin, end, to, bit_pitch(batch));
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
  BitBackward(const Tensor& grad, std::vector<Tensor> words, std::vector<BitLayer> layers, double tau, bool need_grad_x)
      : grad_(grad.to(at::kFloat)),
        scale_(static_cast<float>(1.0 / tau)),
        tiling_(grad.size(0), kFloat),
        words_(std::move(words)),
        stack_(std::move(layers), need_grad_x) {
    std::tie(grad_tables_, grad_logits_) = new_gradients(stack_.layers());
    grad_x_ = at::empty({0}, at::device(at::kCPU).dtype(at::kFloat));
    if (need_grad_x) {
      // Side rows lie behind the tensor, in the same storage.
      const BitLayer& first = stack_.layers().front();
      const Tensor rows = new_feature_major(batch(), first.inputs + first.side_rows(), at::kFloat);
      grad_x_ = rows.narrow(1, 0, first.inputs);
      out_ = static_cast<char*>(rows.mutable_data_ptr());
      out_pitch_ = rows.stride(1) * kFloat;
    }
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
    for (size_t l = 0; l < grad_tables_.size(); l++) stack_.layers()[l].finish(grad_tables_[l]);
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
    const int64_t compact = classes() * kTileBytes, rows = stack_.widest() * kTileBytes;
    const Tensor owner = pooled({1}, {1}, compact + 2 * rows, at::kByte);
    char* data = static_cast<char*>(owner.mutable_data_ptr());
    return {owner, data, {data + compact, data + compact + rows}};
  }

  template <typename VisitAll>
  void send(const Tile& tile, const Buffers& buffers, const std::vector<BitDestination>& to,
            const VisitAll& visit_all) const {
    unpack_scores(grad_.const_data_ptr<float>(), grad_.stride(0), grad_.stride(1), classes(), scale_, tile,
                  buffers.compact);
    std::vector<BitRows> words;
    for (const Tensor& of_layer : words_) words.push_back({bytes_of(of_layer) + bit_offset(tile), pitch_of(of_layer)});
    stack_.send(words, buffers.compact, stack_.layers().back().gates / classes(), buffers.rows,
                out_ ? out_ + tile.offset : nullptr, out_pitch_, tile, to, visit_all);
  }

  // Threads share the gates of each layer in turn.
  void one_tile() {
    std::vector<BitDestination> to;
    for (size_t l = 0; l < grad_tables_.size(); l++) {
      const BitLayer& layer = stack_.layers()[l];
      to.push_back({{grad_tables_[l].mutable_data_ptr(), false},
                    layer.learns() ? layer.shares.const_data_ptr<float>() : nullptr,
                    layer.learns() ? grad_logits_[l].mutable_data_ptr<float>() : nullptr,
                    false});
    }
    send(tiling_.tiles[0], new_buffers(), to,
         [](int64_t count, int64_t grain, const auto& visit) { parallel_for(count, grain, visit); });
  }

  // Threads share the slabs of the batch.
  void many_tiles() {
    const BitSums sums(stack_.layers(), tiling_.slabs);
    parallel_for(tiling_.slabs, 1, [&](int64_t begin, int64_t end) {
      const Buffers buffers = new_buffers();
      for (int64_t slab = begin; slab < end; slab++) {
        std::vector<BitDestination> to = sums.of_slab(slab);
        const auto first = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab)]);
        const auto last = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab) + 1]);
        for (size_t t = first; t < last; t++) {
          for (BitDestination& layer : to) layer.more = t > first;
          send(tiling_.tiles[t], buffers, to,
               [](int64_t count, int64_t, const auto& visit) { visit(int64_t{0}, count); });
        }
      }
    });
    sums.finish(grad_tables_, grad_logits_);
  }

  const Tensor grad_;
  const float scale_;
  const Tiling tiling_;
  const std::vector<Tensor> words_;
  const BitStack stack_;
  Tensor grad_x_;
  std::vector<Tensor> grad_tables_, grad_logits_;
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
  std::vector<Tensor> kept;
  for (size_t l = 0; l < tables.size(); l++) {
    arguments::bit_logic_backward_layer(grad, words[l], tables[l], a[l], b[l], shares[l], candidates[l]);
    check_learns(shares[l], candidates[l]);
    check_words(words[l], grad.size(0), l > 0 ? a[l - 1].numel() : words[0].size(1));
    kept.push_back(whole_rows(words[l], grad.size(0)));
    layers.emplace_back(BitWires(a[l], b[l], candidates[l], words[l].size(1)), tables[l], shares[l], of_logits[l],
                        factors[l]);
  }
  return BitBackward(grad, std::move(kept), std::move(layers), tau, need_grad_x).run();
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("gate_ids", &lgn::gate_ids);
  m.impl("bit_logic", &lgn::bit_logic);
  m.impl("bit_logic_backward", &lgn::bit_logic_backward);
}
