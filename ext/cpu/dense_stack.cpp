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

// Floats of a row, its padding included.
int64_t padded_row(const Tensor& x) { return padded_bytes(x.size(0) * 4) / 4; }

// The sigmoids of a new layer's outputs, in place.
void sigmoid_rows(const Tensor& y) {
  const Rows rows = rows_of(y);
  parallel_for(y.size(0) > 0 ? y.size(1) : 0, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; f++) {
      float* row = reinterpret_cast<float*>(rows.data + f * rows.pitch);
      kernels().bit_layer.sigmoid(row, 0, padded_row(y), row);
    }
  });
}

// The gradient of what these sigmoids are of; in the memory of `grad`, if that is the op's own.
Tensor sigmoid_rows_backward(const Tensor& grad, const Tensor& y, bool own) {
  const Rows values = feature_major(y);
  Tensor out = grad;
  if (!own || !has_whole_lines(grad)) {
    out = new_feature_major(grad.size(0), grad.size(1), at::kFloat);
    out.copy_(grad);
  }
  const Rows rows = rows_of(out);
  parallel_for(y.size(0) > 0 ? y.size(1) : 0, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; f++) {
      kernels().bit_layer.sigmoid_backward(reinterpret_cast<const float*>(values.data + f * values.pitch), 0,
                                           padded_row(y), reinterpret_cast<float*>(rows.data + f * rows.pitch));
    }
  });
  return out;
}

// Whether a layer's outputs are the sigmoids of its interpolated logits; an empty list says that none are.
bool is_warped(const c10::List<bool>& warped, size_t layer) { return !warped.empty() && warped[layer]; }

void check_stack(const Tensor& x, TensorList given, TensorList a, TensorList b, const c10::List<bool>& of_logits,
                 int64_t k, const c10::List<bool>& warped) {
  TORCH_CHECK_VALUE(k >= 0, "k must be a number of sums, or 0 for none, and is ", k);
  check_layers({given.size(), a.size(), b.size(), of_logits.size()});
  if (!warped.empty()) check_layers({given.size(), warped.size()});
  for (size_t l = 0; l < given.size(); l++) {
    arguments::logic_stack_layer(x, given[l], a[l], b[l]);
    const int64_t entries = given[l].size(1);
    TORCH_CHECK_VALUE(entries == 4 || (of_logits[l] && entries == 16), "given has shape ", given[l].sizes(),
                      ", but must be [n, 4], or logits [n, 16]");
    TORCH_CHECK_TYPE(entries == 16 || !of_logits[l] || given[l].scalar_type() == at::kFloat,
                     "logits of sigmoids must be float32");
    TORCH_CHECK_VALUE(!is_warped(warped, l) || (!of_logits[l] && x.scalar_type() == at::kFloat),
                      "warped layers take the logits themselves, and float32");
  }
}

// Result, and, if they are to be kept, the inputs of all layers but the first, then tables, then what else belongs to
// them, then the outputs of a warped last layer that are summed up.
std::tuple<Tensor, std::vector<Tensor>> logic_stack(const Tensor& x, TensorList given, TensorList a, TensorList b,
                                                    c10::List<bool> of_logits, int64_t k, double tau, bool keep,
                                                    c10::List<bool> warped) {
  arguments::logic_stack(x);
  check_stack(x, given, a, b, of_logits, k, warped);
  std::vector<Tensor> inputs, tables, others, outputs;
  Tensor y = x;
  for (size_t l = 0; l < given.size(); l++) {
    if (keep && l > 0) inputs.push_back(y);
    auto [table, other] = tables_of(given[l], of_logits[l], keep);
    const bool last = l + 1 == given.size();
    const bool bent = is_warped(warped, l);
    y = last && k > 0 && !bent ? logic_group_sum(y, table, a[l], b[l], k, tau) : logic(y, table, a[l], b[l]);
    if (bent) sigmoid_rows(y);
    if (bent && last && keep && k > 0) outputs.push_back(y);
    if (bent && last && k > 0) y = group_sum(y, k, tau);
    if (!keep) continue;
    tables.push_back(of_logits[l] ? table : other);
    others.push_back(given[l].size(1) == 16 ? other : at::empty({0}, given[l].options()));
  }
  inputs.insert(inputs.end(), tables.begin(), tables.end());
  inputs.insert(inputs.end(), others.begin(), others.end());
  inputs.insert(inputs.end(), outputs.begin(), outputs.end());
  return {y, inputs};
}

// `kept` ends with the outputs of a warped last layer, those of the op itself if they are not summed up.
std::tuple<Tensor, std::vector<Tensor>> logic_stack_backward(const Tensor& grad, const Tensor& x, TensorList kept,
                                                             TensorList given, TensorList a, TensorList b,
                                                             c10::List<bool> of_logits, int64_t k, double tau,
                                                             at::ArrayRef<double> factors, bool need_grad_x,
                                                             c10::List<bool> warped) {
  arguments::logic_stack_backward(grad, x);
  check_stack(x, given, a, b, of_logits, k, warped);
  const size_t layers = given.size();
  check_layers({3 * layers - 1 + is_warped(warped, layers - 1), kept.size()});
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
    const bool bent = is_warped(warped, l), sums = l + 1 == layers && k > 0;
    if (bent) {
      const Tensor& out = l + 1 < layers ? kept[l] : kept[3 * layers - 1];
      TORCH_CHECK_VALUE(
          out.dim() == 2 && out.size(0) == x.size(0) && out.size(1) == a[l].size(0) && out.scalar_type() == at::kFloat,
          "logic_stack_backward: outputs of layer ", l, " are not those of logic_stack");
      TORCH_CHECK_VALUE(sums || above.sizes() == out.sizes(), "grad has shape ", above.sizes(), ", but must be ",
                        out.sizes());
      if (sums) above = group_sum_backward(above, out.size(1), tau, at::kFloat);
      above = sigmoid_rows_backward(above.to(at::kFloat), out, sums || l + 1 < layers);
    }
    auto [grad_in, grad_table] = sums && !bent ? logic_group_sum_backward(above, in, table, a[l], b[l], tau, need)
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
