// A stack of straight-through layers and a group sum as one op (lgn_lightning/ops/straight_through.py).
//
// The forward pass leaves nothing but bits. The backward pass takes the layers from the last to the first, with the
// gradients of two neighbouring layers in memory at a time.
#include "straight_through.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>

#include <limits>
#include <tuple>
#include <vector>

#include "bits_tensors.h"
#include "choices.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

using at::TensorList;

Tensor gate_ids_op(const Tensor& logits) {
  const c10::cuda::CUDAGuard guard(logits.device());
  arguments::gate_ids(logits);
  check_gate_logits(logits);
  const Tensor source = plain(logits, at::kFloat);
  const Tensor ids = at::empty({source.size(0)}, source.options().dtype(at::kByte));
  gate_ids(source.const_data_ptr<float>(), source.size(0), source.size(1), ids.mutable_data_ptr<uint8_t>(),
           stream_of(source));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return ids;
}

// The wires of a layer, whose indices it checks.
struct BitWires {
  Tensor a, b, candidates;
  int64_t inputs, gates;
  std::shared_ptr<const DeviceWalk> walk;  // of fixed wires

  BitWires(const Tensor& a_in, const Tensor& b_in, const Tensor& candidates_in, const Tensor& words)
      : a(a_in.contiguous()),
        b(b_in.contiguous()),
        candidates(candidates_in.contiguous()),
        inputs(words.size(1)),
        gates(a_in.numel()) {
    TORCH_CHECK(std::max(inputs, gates) < std::numeric_limits<int32_t>::max() / 4, "a layer of ", gates, " gates on ",
                inputs, " inputs passes what 32-bit indices hold");
    if (learned()) {
      // The wires of a step are taken for some of them: looking at them would wait for the device.
      check_candidates(candidates, inputs);
    } else if (gates > 0) {
      walk = cached_walk(a, b, inputs);  // checks the indices
    }
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

  BitLayer(const BitWires& wires, const Tensor& words_in, const Tensor& table_in, const Tensor& shares_in,
           bool of_logits_in, double factor_in)
      : BitWires(wires),
        words(words_in),
        table(plain(of_logits_in ? at::sigmoid(table_in) : table_in, at::kFloat)),
        shares(plain(shares_in, at::kFloat)),
        of_logits(of_logits_in),
        factor(static_cast<float>(factor_in)) {}
  // From the gradient of the table to that of what was given for it.
  Tensor finish(const Tensor& grad) const { return of_logits ? at::sigmoid_backward(grad, table) : grad; }
};

std::tuple<Tensor, std::vector<Tensor>> bit_logic(const Tensor& x, TensorList gates, TensorList a, TensorList b,
                                                  TensorList candidates, int64_t k, double tau,
                                                  const std::optional<Tensor>& packed) {
  const c10::cuda::CUDAGuard guard(x.device());
  check_layers({gates.size(), a.size(), b.size(), candidates.size()});
  arguments::bit_logic(x, packed);
  const int64_t batch = x.size(0);
  if (packed) check_words(*packed, batch, x.size(1));
  const cudaStream_t stream = stream_of(x);
  std::vector<Tensor> words{packed ? copy_words(*packed, batch) : pack(x)};
  for (size_t l = 0; l < gates.size(); l++) {
    const Tensor in = words.back();
    arguments::bit_logic_layer(in, gates[l], a[l], b[l], candidates[l]);
    const BitWires layer(a[l], b[l], candidates[l], in);
    const Tensor ids = gates[l].contiguous();
    const Tensor out = new_words(batch, layer.gates, x);
    if (out.numel() > 0) {
      logic_packed(bytes_of(in), byte_pitch(in), ids.const_data_ptr<uint8_t>(), layer.a.const_data_ptr<int32_t>(),
                   layer.b.const_data_ptr<int32_t>(), layer.gates, bit_pitch(batch),
                   static_cast<uint8_t*>(out.mutable_data_ptr()), byte_pitch(out), stream);
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    words.push_back(out);
  }
  const Tensor last = words.back();
  words.pop_back();
  check_groups(last.size(1), k);
  const Tensor scores = at::zeros({batch, k}, x.options().dtype(at::kFloat));
  if (last.numel() > 0) {
    const Tensor counts = at::zeros({batch, k}, x.options().dtype(at::kInt));
    group_sum_packed(bytes_of(last), byte_pitch(last), batch, last.size(1) / k, k, counts.mutable_data_ptr<int32_t>(),
                     stream);
    scores_of_counts(counts.const_data_ptr<int32_t>(), batch * k, static_cast<float>(tau),
                     scores.mutable_data_ptr<float>(), stream);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {scores, words};
}

void fixed_backward(const BitLayer& layer, GradientArgs to, int64_t batch, cudaStream_t stream) {
  const DeviceWalk& walk = *layer.walk;
  const int64_t partial_pitch = pitch_of(batch, at::kFloat);
  const Tensor partials = at::empty({to.grad_x != nullptr ? walk.slots * partial_pitch : 0}, layer.table.options());
  const LayerArgs args{
      Storage::kF32, batch,     layer.words.const_data_ptr(), byte_pitch(layer.words), layer.table.const_data_ptr(),
      walk.data(),   walk.count};
  if (to.grad_x != nullptr) {
    to.partials = partials.mutable_data_ptr();
    to.partial_pitch = partial_pitch;
    to.merge_inputs = walk.merge_inputs.const_data_ptr<int32_t>();
    to.merge_begin = walk.merge_begin.const_data_ptr<int32_t>();
    to.merges = walk.merges;
  }
  bit_layer_backward(args, layer.factor, to, stream);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// The backward pass of a layer whose wires are those of this step. Which gates use an input is sorted on the device, so
// that sums have a fixed order and nothing waits.
void learned_backward(const BitLayer& layer, const GradientArgs& to, const Tensor& grad_logits, int64_t batch,
                      cudaStream_t stream) {
  ChoiceArgs args{Storage::kF32, batch, layer.words.const_data_ptr(), byte_pitch(layer.words),
                  layer.table.const_data_ptr()};
  args.a = layer.a.const_data_ptr<int32_t>();
  args.b = layer.b.const_data_ptr<int32_t>();
  args.candidates = layer.candidates.const_data_ptr<int32_t>();
  args.gates = layer.gates;
  args.count = layer.candidates.size(2);
  args.grad = to.grad;
  args.grad_pitch = to.grad_pitch;
  args.group = to.group;
  const Tensor grad_shares = at::empty(layer.candidates.sizes(), grad_logits.options());
  args.grad_shares = grad_shares.mutable_data_ptr();
  args.grad_table = to.grad_table;
  bit_choices_backward(args, stream);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (layer.shares.numel() > 0) {  // without, the kernel's sums over candidates go nowhere
    choose_backward(grad_shares.const_data_ptr<float>(), layer.shares.const_data_ptr<float>(), args.gates, args.count,
                    grad_logits.mutable_data_ptr<float>(), stream);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  if (to.grad_x == nullptr) return;
  const auto [sorted, order] = at::sort(at::stack({layer.a, layer.b}, 1).flatten(), /*stable=*/true, 0, false);
  const Tensor uses = order.to(at::kInt),
               begin = at::searchsorted(sorted, at::arange(layer.inputs + 1, sorted.options()), /*out_int32=*/true);
  bit_inputs_backward(args, layer.factor, uses.const_data_ptr<int32_t>(), begin.const_data_ptr<int32_t>(), layer.inputs,
                      static_cast<float*>(to.grad_x), to.grad_x_pitch, stream);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>> bit_logic_backward(
    const Tensor& grad, TensorList words, TensorList tables, TensorList a, TensorList b, TensorList shares,
    TensorList candidates, c10::List<bool> of_logits, double tau, at::ArrayRef<double> factors, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(grad.device());
  check_layers({tables.size(), a.size(), b.size(), words.size(), shares.size(), candidates.size(), of_logits.size(),
                factors.size()});
  arguments::bit_logic_backward(grad);
  check_groups(a.back().numel(), grad.size(1));
  const int64_t batch = grad.size(0), classes = grad.size(1), layers = static_cast<int64_t>(tables.size());
  const auto options = grad.options().dtype(at::kFloat);
  const cudaStream_t stream = stream_of(grad);
  const Tensor source = grad.to(at::kFloat);
  // A row a class; below the last layer, a row a gate.
  Tensor upper = new_feature_major(batch, classes, at::kFloat, grad);
  if (grad.numel() > 0) {
    compact_gradient(Storage::kF32, source.const_data_ptr(), source.stride(0), source.stride(1), batch, classes,
                     1.0 / tau, upper.mutable_data_ptr(), upper.stride(1), stream);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  std::vector<Tensor> grad_tables(tables.size()), grad_logits(tables.size());
  for (int64_t l = layers - 1; l >= 0; l--) {
    const auto at_layer = static_cast<size_t>(l);
    arguments::bit_logic_backward_layer(grad, words[at_layer], tables[at_layer], a[at_layer], b[at_layer],
                                        shares[at_layer], candidates[at_layer]);
    check_learns(shares[at_layer], candidates[at_layer]);
    check_words(words[at_layer], batch, l > 0 ? a[at_layer - 1].numel() : words[0].size(1));
    const Tensor bits = whole_rows(words[at_layer], batch);
    const BitLayer layer(BitWires(a[at_layer], b[at_layer], candidates[at_layer], bits), bits, tables[at_layer],
                         shares[at_layer], of_logits[at_layer], factors[at_layer]);
    const bool wanted = need_grad_x || l > 0;
    Tensor grad_x = wanted ? new_feature_major(batch, layer.inputs, at::kFloat, grad) : at::empty({0}, options);
    grad_tables[at_layer] = at::empty({layer.gates, 4}, options);
    grad_logits[at_layer] = at::empty(shares[at_layer].sizes(), options);
    if (batch == 0 || layer.gates == 0) {
      grad_tables[at_layer].zero_();
      grad_logits[at_layer].zero_();
      if (wanted) grad_x.zero_();
    } else {
      GradientArgs to{};
      to.grad = upper.const_data_ptr();
      to.grad_pitch = upper.stride(1);
      to.group = l == layers - 1 ? static_cast<int32_t>(layer.gates / classes) : 0;
      to.grad_table = grad_tables[at_layer].mutable_data_ptr();
      if (wanted) {
        to.grad_x = grad_x.mutable_data_ptr();
        to.grad_x_pitch = grad_x.stride(1);
      }
      if (layer.learned()) {
        learned_backward(layer, to, grad_logits[at_layer], batch, stream);
      } else {
        fixed_backward(layer, to, batch, stream);
      }
    }
    grad_tables[at_layer] = layer.finish(grad_tables[at_layer]);
    upper = grad_x;
  }
  return {upper, grad_tables, grad_logits};
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("gate_ids", &lgn::cuda::gate_ids_op);
  m.impl("bit_logic", &lgn::cuda::bit_logic);
  m.impl("bit_logic_backward", &lgn::cuda::bit_logic_backward);
}
