// The ops of dense layers, group sums and the softmax over gates (lgn_lightning/ops/dense.py): checks, memory formats
// and streams.
#include "dense.h"

#include <limits>
#include <tuple>

#include "tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

// The checked arguments that every op on a layer has, in the forms that kernels take.
struct Layer {
  Tensor x, table, a, b;
  int64_t batch, inputs, gates;
  Storage storage;
  at::ScalarType dtype, sums;

  Layer(const Tensor& x_in, const Tensor& table_in, const Tensor& a_in, const Tensor& b_in)
      : x(feature_major(x_in)),
        table(plain(table_in, sum_dtype(x_in.scalar_type()))),
        a(a_in.contiguous()),
        b(b_in.contiguous()),
        batch(x_in.size(0)),
        inputs(x_in.size(1)),
        gates(a_in.numel()),
        storage(storage_of(x_in.scalar_type())),
        dtype(x_in.scalar_type()),
        sums(sum_dtype(dtype)) {
    TORCH_CHECK(std::max(inputs, gates) < std::numeric_limits<int32_t>::max() / 4, "a layer of ", gates, " gates on ",
                inputs, " inputs passes what 32-bit indices hold");
  }
  bool empty() const { return batch == 0 || gates == 0; }
  LayerArgs args(const DeviceWalk& walk) const {
    return {storage, batch, x.const_data_ptr(), x.stride(1), table.const_data_ptr(), walk.data(), walk.count};
  }
};

Tensor logic(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic(x, table, a, b);
  const Layer layer(x, table, a, b);
  Tensor y = new_feature_major(layer.batch, layer.gates, layer.dtype, x);
  if (layer.empty()) return y;
  const auto walk = cached_walk(layer.a, layer.b, layer.inputs);
  logic_forward(layer.args(*walk), y.mutable_data_ptr(), y.stride(1), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

// `grad` has one row a gate, or with `group` > 0 one for every `group` gates.
std::tuple<Tensor, Tensor> backward(const Layer& layer, at::ScalarType table_dtype, const Tensor& grad, int64_t group,
                                    bool need_grad_x) {
  const auto options = layer.x.options();
  if (layer.empty()) {
    Tensor none = at::empty({0}, options);
    if (need_grad_x) none = new_feature_major(layer.batch, layer.inputs, layer.dtype, layer.x).zero_();
    return {none, at::zeros({layer.gates, 4}, options.dtype(table_dtype))};
  }
  Tensor grad_table = at::empty({layer.gates, 4}, options.dtype(layer.sums));
  Tensor grad_x =
      need_grad_x ? new_feature_major(layer.batch, layer.inputs, layer.dtype, layer.x) : at::empty({0}, options);
  const auto walk = cached_walk(layer.a, layer.b, layer.inputs);
  const int64_t partial_pitch = pitch_of(layer.batch, layer.sums);
  const Tensor partials = at::empty({need_grad_x ? walk->slots * partial_pitch : 0}, options.dtype(layer.sums));
  GradientArgs to{};
  to.grad = grad.const_data_ptr();
  to.grad_pitch = grad.stride(1);
  to.group = static_cast<int32_t>(group);
  to.grad_table = grad_table.mutable_data_ptr();
  if (need_grad_x) {
    to.grad_x = grad_x.mutable_data_ptr();
    to.grad_x_pitch = grad_x.stride(1);
    to.partials = partials.mutable_data_ptr();
    to.partial_pitch = partial_pitch;
    to.merge_inputs = walk->merge_inputs.const_data_ptr<int32_t>();
    to.merge_begin = walk->merge_begin.const_data_ptr<int32_t>();
    to.merges = walk->merges;
  }
  logic_backward(layer.args(*walk), to, stream_of(layer.x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_table.to(table_dtype)};
}

std::tuple<Tensor, Tensor> logic_backward_op(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& a,
                                             const Tensor& b, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_backward(grad, x, table, a, b);
  const Layer layer(x, table, a, b);
  return backward(layer, table.scalar_type(), feature_major(grad.to(layer.dtype)), 0, need_grad_x);
}

std::tuple<Tensor, Tensor> logic_group_sum_backward(const Tensor& grad, const Tensor& x, const Tensor& table,
                                                    const Tensor& a, const Tensor& b, double tau, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_group_sum_backward(grad, x, table, a, b);
  const int64_t classes = grad.size(1);
  check_groups(a.size(0), classes);
  const Layer layer(x, table, a, b);
  const Tensor source = grad.to(layer.sums);
  const Tensor rows = new_feature_major(layer.batch, classes, layer.sums, x);
  compact_gradient(storage_of(layer.sums), source.const_data_ptr(), source.stride(0), source.stride(1), layer.batch,
                   classes, 1.0 / tau, rows.mutable_data_ptr(), rows.stride(1), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return backward(layer, table.scalar_type(), rows, layer.gates / classes, need_grad_x);
}

Tensor sum_groups(GroupArgs args, int64_t features, int64_t k, double tau, const Tensor& x) {
  const at::ScalarType sums = sum_dtype(x.scalar_type());
  if (args.batch == 0 || features == 0) return at::zeros({args.batch, k}, x.options().dtype(sums));
  Tensor out = at::empty({args.batch, k}, x.options().dtype(sums));
  args.group = features / k;
  args.classes = k;
  args.tau = tau;
  args.partial_pitch = pitch_of(args.batch, sums);
  const Tensor partials = at::empty({k * group_slices(args.group) * args.partial_pitch}, x.options().dtype(sums));
  args.partials = partials.mutable_data_ptr();
  args.out = out.mutable_data_ptr();
  group_sum(args, stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor logic_group_sum(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b, int64_t k, double tau) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_group_sum(x, table, a, b);
  check_groups(a.size(0), k);
  const Layer layer(x, table, a, b);
  if (!layer.empty()) cached_walk(layer.a, layer.b, layer.inputs);  // checks the indices; the backward pass needs it
  GroupArgs args{layer.storage, layer.batch, layer.x.const_data_ptr(), layer.x.stride(1), layer.table.const_data_ptr()};
  args.a = layer.a.const_data_ptr<int32_t>();
  args.b = layer.b.const_data_ptr<int32_t>();
  return sum_groups(args, layer.gates, k, tau, x);
}

Tensor group_sum_op(const Tensor& x, int64_t k, double tau) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::group_sum(x);
  check_groups(x.size(1), k);
  const Tensor rows = feature_major(x);
  return sum_groups({storage_of(x.scalar_type()), x.size(0), rows.const_data_ptr(), rows.stride(1)}, x.size(1), k, tau,
                    x);
}

Tensor softmax_table_op(const Tensor& logits) {
  const c10::cuda::CUDAGuard guard(logits.device());
  arguments::softmax_table(logits);
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = plain(logits, dtype);
  const Tensor table = at::empty({source.size(0), 4}, source.options());
  softmax_table(dtype == at::kDouble, source.const_data_ptr(), source.size(0), table.mutable_data_ptr(),
                stream_of(source));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return table.to(logits.scalar_type());
}

Tensor softmax_table_backward_op(const Tensor& grad, const Tensor& logits) {
  const c10::cuda::CUDAGuard guard(logits.device());
  arguments::softmax_table_backward(grad, logits);
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = plain(logits, dtype), upper = plain(grad, dtype);
  const Tensor out = at::empty({source.size(0), 16}, source.options());
  softmax_table_backward(dtype == at::kDouble, upper.const_data_ptr(), source.const_data_ptr(), source.size(0),
                         out.mutable_data_ptr(), stream_of(source));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out.to(logits.scalar_type());
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("softmax_table", &lgn::cuda::softmax_table_op);
  m.impl("softmax_table_backward", &lgn::cuda::softmax_table_backward_op);
  m.impl("logic", &lgn::cuda::logic);
  m.impl("logic_backward", &lgn::cuda::logic_backward_op);
  m.impl("group_sum", &lgn::cuda::group_sum_op);
  m.impl("logic_group_sum", &lgn::cuda::logic_group_sum);
  m.impl("logic_group_sum_backward", &lgn::cuda::logic_group_sum_backward);
}
