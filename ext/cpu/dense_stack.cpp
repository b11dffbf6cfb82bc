// A stack of layers and a group sum as one op, and the softmax over gates (lgn_lightning/ops/dense_stack.py, dense.py).
//
// One call in place of a dozen: in a net of some thousand gates a layer, what torch takes for calls is a fifth of a
// step.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "dense_ops.h"
#include "tensors.h"

namespace lgn {
namespace {

using at::TensorList;

// The table of logits [n, 16], and what the backward pass needs of it: the probabilities of the gates as the kernel has
// them, [n rounded up, 16], if they are to be kept, else nothing.
std::tuple<Tensor, Tensor> softmax_tables(const Tensor& logits, bool keep) {
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = logits.to(dtype).contiguous();
  const int64_t n = source.size(0);
  const Tensor table = new_rows(n, 4, dtype);
  keep = keep && dtype == at::kFloat;
  const Tensor kept = keep ? new_rows((n + kSoftmaxGates - 1) / kSoftmaxGates * kSoftmaxGates, 16, dtype)
                           : at::empty({0}, table.options());
  const LayerKernels& k = layer_kernels_of(dtype);
  const void* from = source.const_data_ptr();
  void* to = table.mutable_data_ptr();
  void* probabilities = keep ? kept.mutable_data_ptr() : nullptr;
  parallel_for((n + 63) / 64, kGrain / 64, [&](int64_t begin, int64_t end) {
    k.softmax_table(from, begin * 64, std::min(end * 64, n), to, probabilities);
  });
  return {table, kept};
}

Tensor softmax_tables_backward(const Tensor& grad, const Tensor& logits, const Tensor& kept) {
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = logits.to(dtype).contiguous(), upper = grad.to(dtype).contiguous();
  const Tensor out = new_rows(source.size(0), 16, dtype);
  const LayerKernels& k = layer_kernels_of(dtype);
  const void* from = source.const_data_ptr();
  const void* with = upper.const_data_ptr();
  const void* probabilities = kept.dim() == 2 ? kept.const_data_ptr() : nullptr;
  void* to = out.mutable_data_ptr();
  parallel_for((source.size(0) + 63) / 64, kGrain / 64, [&](int64_t begin, int64_t end) {
    k.softmax_table_backward(with, from, probabilities, begin * 64, std::min(end * 64, source.size(0)), to);
  });
  return dtype == logits.scalar_type() ? out : out.to(logits.scalar_type());
}

Tensor softmax_table(const Tensor& logits) {
  arguments::softmax_table(logits);
  const Tensor table = std::get<0>(softmax_tables(logits, false));
  return table.scalar_type() == logits.scalar_type() ? table : table.to(logits.scalar_type());
}

Tensor softmax_table_backward(const Tensor& grad, const Tensor& logits) {
  arguments::softmax_table_backward(grad, logits);
  return softmax_tables_backward(grad, logits, at::empty({0}, logits.options()));
}

// A layer's tables and what the backward pass needs besides: nothing if the tables themselves were given.
std::tuple<Tensor, Tensor> tables_of(const Tensor& given, bool of_logits, bool keep) {
  if (!of_logits) return {given, at::empty({0}, given.options())};
  if (given.size(1) == 16) return softmax_tables(given, keep);
  const Tensor logits = given.contiguous(), table = new_rows(given.size(0), 4, at::kFloat);
  const float* from = logits.const_data_ptr<float>();
  float* to = table.mutable_data_ptr<float>();
  parallel_for(given.numel(), 16 * kGrain,
               [&](int64_t begin, int64_t end) { kernels().bit_layer.sigmoid(from, begin, end, to); });
  return {table, keep ? table : at::empty({0}, given.options())};
}

// From the gradient of the tables to that of what was given for them.
Tensor gradient_of_given(const Tensor& grad, const Tensor& given, bool of_logits, const Tensor& kept) {
  if (!of_logits) return grad;
  if (given.size(1) == 16) return softmax_tables_backward(grad, given, kept);
  const Tensor tables = kept.contiguous();
  const float* from = tables.const_data_ptr<float>();
  float* to = grad.mutable_data_ptr<float>();
  parallel_for(given.numel(), 16 * kGrain,
               [&](int64_t begin, int64_t end) { kernels().bit_layer.sigmoid_backward(from, begin, end, to); });
  return grad;
}

void check_stack(const Tensor& x, TensorList given, TensorList a, TensorList b, const c10::List<bool>& of_logits) {
  check_layers({given.size(), a.size(), b.size(), of_logits.size()});
  for (size_t l = 0; l < given.size(); l++) {
    arguments::logic_stack_layer(x, given[l], a[l], b[l]);
    const int64_t entries = given[l].size(1);
    TORCH_CHECK_VALUE(entries == 4 || (of_logits[l] && entries == 16), "given has shape ", given[l].sizes(),
                      ", but must be [n, 4], or logits [n, 16]");
    TORCH_CHECK_TYPE(entries == 16 || !of_logits[l] || given[l].scalar_type() == at::kFloat,
                     "logits of sigmoids must be float32");
  }
}

// Result, and, if they are to be kept, the inputs of all layers but the first, then tables, then what else belongs to
// them.
std::tuple<Tensor, std::vector<Tensor>> logic_stack(const Tensor& x, TensorList given, TensorList a, TensorList b,
                                                    c10::List<bool> of_logits, int64_t k, double tau, bool keep) {
  arguments::logic_stack(x);
  check_stack(x, given, a, b, of_logits);
  std::vector<Tensor> inputs, tables, others;
  Tensor y = x;
  for (size_t l = 0; l < given.size(); l++) {
    if (keep && l > 0) inputs.push_back(y);
    auto [table, other] = tables_of(given[l], of_logits[l], keep);
    const bool last = l + 1 == given.size();
    y = last && k > 0 ? logic_group_sum(y, table, a[l], b[l], k, tau) : logic(y, table, a[l], b[l]);
    if (!keep) continue;
    tables.push_back(of_logits[l] ? table : other);
    others.push_back(given[l].size(1) == 16 ? other : at::empty({0}, given[l].options()));
  }
  inputs.insert(inputs.end(), tables.begin(), tables.end());
  inputs.insert(inputs.end(), others.begin(), others.end());
  return {y, inputs};
}

std::tuple<Tensor, std::vector<Tensor>> logic_stack_backward(const Tensor& grad, const Tensor& x, TensorList kept,
                                                             TensorList given, TensorList a, TensorList b,
                                                             c10::List<bool> of_logits, int64_t k, double tau,
                                                             at::ArrayRef<double> factors, bool need_grad_x) {
  arguments::logic_stack_backward(grad, x);
  check_stack(x, given, a, b, of_logits);
  const size_t layers = given.size();
  check_layers({3 * layers - 1, kept.size()});
  check_layers({layers, factors.size()});
  std::vector<Tensor> grads(layers);
  Tensor above = grad;
  for (size_t l = layers; l-- > 0;) {
    const Tensor& in = l > 0 ? kept[l - 1] : x;
    const Tensor& table = of_logits[l] ? kept[layers - 1 + l] : given[l];
    const Tensor& other = given[l].size(1) == 16 ? kept[2 * layers - 1 + l] : table;
    if (other.dim() == 2 && other.size(1) == 16) {
      const int64_t rows = (given[l].size(0) + kSoftmaxGates - 1) / kSoftmaxGates * kSoftmaxGates;
      TORCH_CHECK_VALUE(other.scalar_type() == at::kFloat && other.is_contiguous() && other.size(0) == rows,
                        "logic_stack_backward: probabilities of layer ", l, " are not those of logic_stack");
    }
    const bool need = l > 0 || need_grad_x;
    auto [grad_in, grad_table] = l + 1 == layers && k > 0
                                     ? logic_group_sum_backward(above, in, table, a[l], b[l], tau, need)
                                     : logic_backward(above, in, table, a[l], b[l], need);
    grads[l] = gradient_of_given(grad_table, given[l], of_logits[l], other);
    above = factors[l] == 1 || !need ? grad_in : grad_in.mul_(factors[l]);
  }
  return {above, grads};
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("softmax_table", &lgn::softmax_table);
  m.impl("softmax_table_backward", &lgn::softmax_table_backward);
  m.impl("logic_stack", &lgn::logic_stack);
  m.impl("logic_stack_backward", &lgn::logic_stack_backward);
}
