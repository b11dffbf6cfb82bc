// The ops of lgn_lightning/ops/lut.py: checks, memory formats and streams.
#include "lut.h"

#include <limits>
#include <tuple>

#include "tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

// Memory for the gradients of the gates' inputs: a small share of a GPU's, and slices are large enough to fill it.
constexpr int64_t kPartBytes = int64_t{1} << 30;

// The wiring of a layer, checked unless it has no gates.
struct Wiring {
  Tensor indices;
  int64_t features, gates;
  int32_t inputs;
  std::shared_ptr<const DeviceLutUses> uses;

  Wiring(const Tensor& x, const Tensor& indices_in) : indices(indices_in.contiguous()) {
    features = x.size(1), gates = indices.size(1), inputs = static_cast<int32_t>(indices.size(0));
    TORCH_CHECK(std::max(features, inputs * gates) < std::numeric_limits<int32_t>::max() / 4, "a layer of ", gates,
                " gates on ", features, " inputs passes what 32-bit indices hold");
    if (gates > 0) uses = cached_lut_uses(indices, features);
  }
};

// The checked arguments that both passes have, in the forms that kernels take.
struct Lut {
  Wiring wiring;
  at::ScalarType dtype, sums;
  Tensor x, table;
  LutArgs args{};

  Lut(const Tensor& x_in, const Tensor& table_in, const Tensor& indices)
      : wiring(x_in, indices),
        dtype(x_in.scalar_type()),
        sums(sum_dtype(dtype)),
        x(feature_major(x_in)),
        table(plain(table_in, sums)) {
    args.storage = storage_of(dtype);
    args.inputs = wiring.inputs;
    args.gates = wiring.gates;
    args.batch = x.size(0);
    if (empty()) return;
    args.x = x.const_data_ptr();
    args.x_pitch = x.stride(1);
    args.table = table.const_data_ptr();
    args.indices = wiring.indices.const_data_ptr<int32_t>();
  }
  bool empty() const { return args.batch == 0 || args.gates == 0; }
};

Tensor lut_op(const Tensor& x, const Tensor& table, const Tensor& indices) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::lut(x, table, indices);
  check_lut(indices, table.size(1));
  const Lut lut(x, table, indices);
  const Tensor y = new_feature_major(lut.args.batch, lut.args.gates, lut.dtype, x);
  if (lut.empty()) return y;
  lut_forward(lut.args, y.mutable_data_ptr(), y.stride(1), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

std::tuple<Tensor, Tensor> lut_backward_op(const Tensor& grad_in, const Tensor& x, const Tensor& table,
                                           const Tensor& indices, bool need_grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::lut_backward(grad_in, x, table, indices);
  check_lut(indices, table.size(1));
  const Lut lut(x, table, indices);
  const LutArgs& args = lut.args;
  const Tensor grad_x =
      need_grad_x ? new_feature_major(args.batch, x.size(1), lut.dtype, x) : at::empty({0}, x.options());
  if (lut.empty()) {
    if (need_grad_x) grad_x.zero_();
    return {grad_x, at::zeros(table.sizes(), table.options())};
  }
  const Tensor grad = feature_major(grad_in.to(lut.dtype));
  const Tensor grad_table = at::empty(lut.table.sizes(), lut.table.options());
  LutGradientArgs to{};
  to.samples = lut_slice(args, need_grad_x ? kPartBytes : std::numeric_limits<int64_t>::max());
  const Tensor parts = at::empty({need_grad_x ? args.inputs * args.gates * to.samples : 0}, grad_table.options());
  to.grad = grad.const_data_ptr();
  to.grad_pitch = grad.stride(1);
  to.grad_table = grad_table.mutable_data_ptr();
  if (need_grad_x) {
    to.grad_x = grad_x.mutable_data_ptr();
    to.grad_x_pitch = grad_x.stride(1);
    to.parts = parts.mutable_data_ptr();
    to.uses = lut.wiring.uses->uses.const_data_ptr<int32_t>();
    to.uses_begin = lut.wiring.uses->begin.const_data_ptr<int32_t>();
    to.features = lut.wiring.features;
  }
  lut_backward(args, to, stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_table.to(table.scalar_type())};
}

Tensor lut_packed_op(const Tensor& x, const Tensor& ids_in, const Tensor& indices) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::lut_packed(x, ids_in, indices);
  check_lut(indices);
  const Tensor ids = ids_in.contiguous();
  const Wiring wiring(x, indices);
  const Tensor y = new_feature_major(x.size(0), wiring.gates, x.scalar_type(), x);
  if (y.numel() == 0) return y;
  const Tensor rows = feature_major(x);
  lut_packed(bytes_of(rows), byte_pitch(rows), ids.const_data_ptr<int64_t>(), wiring.indices.const_data_ptr<int32_t>(),
             wiring.inputs, wiring.gates, x.size(0) * static_cast<int64_t>(x.element_size()),
             static_cast<uint8_t*>(y.mutable_data_ptr()), byte_pitch(y), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

Tensor lut_ids_op(const Tensor& logits_in) {
  const c10::cuda::CUDAGuard guard(logits_in.device());
  arguments::lut_ids(logits_in);
  check_lut_logits(logits_in);
  const Tensor logits = logits_in.to(at::kFloat).contiguous();
  const Tensor ids = at::empty({logits.size(0)}, logits.options().dtype(at::kLong));
  if (ids.numel() == 0) return ids;
  lut_ids(logits.const_data_ptr<float>(), logits.size(0), logits.size(1), ids.mutable_data_ptr<int64_t>(),
          stream_of(logits));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return ids;
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("lut", &lgn::cuda::lut_op);
  m.impl("lut_backward", &lgn::cuda::lut_backward_op);
  m.impl("lut_packed", &lgn::cuda::lut_packed_op);
  m.impl("lut_ids", &lgn::cuda::lut_ids_op);
}
