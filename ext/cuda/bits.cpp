// The ops on packed bits (lgn_lightning/ops/bits.py): checks, memory formats and streams.
#include "bits.h"

#include "../cpu/bits_word_dtype.h"
#include "tensors.h"
#include "wiring_cache.h"

namespace lgn::cuda {
namespace {

Tensor pack_bits_op(const Tensor& x, int64_t bits) {
  const c10::cuda::CUDAGuard guard(x.device());
  const at::ScalarType words = word_dtype(bits);
  arguments::pack_bits(x);
  const Tensor out = new_feature_major((x.size(0) + bits - 1) / bits, x.size(1), words, x);
  if (x.numel() == 0) return out;
  pack_bits(bytes_of(x), x.stride(0), x.stride(1), x.size(0), x.size(1), static_cast<uint8_t*>(out.mutable_data_ptr()),
            byte_pitch(out), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor unpack_bits_op(const Tensor& x, int64_t batch) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::unpack_bits(x);
  check_rows(x, batch);
  const Tensor out = at::empty({batch, x.size(1)}, x.options().dtype(at::kBool));
  if (out.numel() == 0) return out;
  const Tensor rows = feature_major(x);
  unpack_bits(bytes_of(rows), byte_pitch(rows), batch, x.size(1), static_cast<uint8_t*>(out.mutable_data_ptr()),
              stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor logic_packed_op(const Tensor& x, const Tensor& gates, const Tensor& a_in, const Tensor& b_in) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::logic_packed(x, gates, a_in, b_in);
  const Tensor a = a_in.contiguous(), b = b_in.contiguous(), ids = gates.contiguous();
  const Tensor y = new_feature_major(x.size(0), a.numel(), x.scalar_type(), x);
  if (y.numel() == 0) return y;
  cached_walk(a, b, x.size(1));  // checks the indices
  const Tensor rows = feature_major(x);
  logic_packed(bytes_of(rows), byte_pitch(rows), ids.const_data_ptr<uint8_t>(), a.const_data_ptr<int32_t>(),
               b.const_data_ptr<int32_t>(), a.numel(), x.size(0) * static_cast<int64_t>(x.element_size()),
               static_cast<uint8_t*>(y.mutable_data_ptr()), byte_pitch(y), stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

Tensor group_sum_packed_op(const Tensor& x, int64_t k, int64_t batch) {
  const c10::cuda::CUDAGuard guard(x.device());
  arguments::group_sum_packed(x);
  check_rows(x, batch);
  check_groups(x.size(1), k);
  const Tensor out = at::zeros({batch, k}, x.options().dtype(at::kInt));
  if (out.numel() == 0 || x.size(1) == 0) return out;
  const Tensor rows = feature_major(x);
  group_sum_packed(bytes_of(rows), byte_pitch(rows), batch, x.size(1) / k, k, out.mutable_data_ptr<int32_t>(),
                   stream_of(x));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace
}  // namespace lgn::cuda

TORCH_LIBRARY_IMPL(lgn, CUDA, m) {
  m.impl("pack_bits", &lgn::cuda::pack_bits_op);
  m.impl("unpack_bits", &lgn::cuda::unpack_bits_op);
  m.impl("logic_packed", &lgn::cuda::logic_packed_op);
  m.impl("group_sum_packed", &lgn::cuda::group_sum_packed_op);
}
