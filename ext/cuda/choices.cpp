// The ops of learned connections (lgn_lightning/ops/choices.py): checks, memory formats and streams.
#include "choices.h"

#include <tuple>

#include "tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

Tensor choices_backward_op(const Tensor& grad_in, const Tensor& x_in, const Tensor& table_in, const Tensor& a_in,
                           const Tensor& b_in, const Tensor& candidates_in) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  arguments::choices_backward(grad_in, x_in, table_in, a_in, b_in, candidates_in);
  const int64_t gates = grad_in.size(1), inputs = x_in.size(1), batch = x_in.size(0);
  const at::ScalarType dtype = x_in.scalar_type(), sums = sum_dtype(dtype);
  const Tensor x = feature_major(x_in), grad = feature_major(grad_in.to(dtype)), table = plain(table_in, sums),
               a = a_in.contiguous(), b = b_in.contiguous(), candidates = candidates_in.contiguous();
  const auto options = x.options().dtype(sums);
  if (batch == 0) return at::zeros(candidates.sizes(), options);
  Tensor out = at::empty(candidates.sizes(), options);
  if (out.numel() == 0) return out;
  check_candidates(candidates, inputs);
  ChoiceArgs args{storage_of(dtype), batch, x.const_data_ptr(), x.stride(1), table.const_data_ptr()};
  args.a = a.const_data_ptr<int32_t>();
  args.b = b.const_data_ptr<int32_t>();
  args.candidates = candidates.const_data_ptr<int32_t>();
  args.gates = gates;
  args.count = candidates.size(2);
  args.grad = grad.const_data_ptr();
  args.grad_pitch = grad.stride(1);
  args.grad_shares = out.mutable_data_ptr();
  choices_backward(args, stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

std::tuple<Tensor, Tensor, Tensor> choose_op(const Tensor& logits_in, const Tensor& candidates_in,
                                             const Tensor& level_in, double noise) {
  const c10::cuda::CUDAGuard guard(logits_in.device());
  arguments::choose(logits_in, candidates_in, level_in);
  check_choice(logits_in, level_in, noise);
  const Tensor logits = logits_in.contiguous(), candidates = candidates_in.contiguous(), level = level_in.contiguous();
  const int64_t gates = logits.size(0), count = logits.size(2);
  const Tensor a = at::empty({gates}, candidates.options()), b = at::empty({gates}, candidates.options()),
               shares = at::empty(logits.sizes(), logits.options());
  if (shares.numel() > 0) {
    choose(logits.const_data_ptr<float>(), candidates.const_data_ptr<int32_t>(), gates, count,
           noise > 0 ? level.const_data_ptr<float>() : nullptr, static_cast<float>(noise),
           a.mutable_data_ptr<int32_t>(), b.mutable_data_ptr<int32_t>(), shares.mutable_data_ptr<float>(),
           stream_of(logits));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {a, b, shares};
}

Tensor choose_backward_op(const Tensor& grad_in, const Tensor& shares_in) {
  const c10::cuda::CUDAGuard guard(shares_in.device());
  arguments::choose_backward(grad_in, shares_in);
  const Tensor grad = grad_in.contiguous(), shares = shares_in.contiguous();
  const Tensor out = at::empty(shares.sizes(), shares.options());
  if (out.numel() > 0) {
    choose_backward(grad.const_data_ptr<float>(), shares.const_data_ptr<float>(), shares.size(0), shares.size(2),
                    out.mutable_data_ptr<float>(), stream_of(shares));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return out;
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("choices_backward", &lgn::cuda::choices_backward_op);
  m.impl("choose", &lgn::cuda::choose_op);
  m.impl("choose_backward", &lgn::cuda::choose_backward_op);
}
