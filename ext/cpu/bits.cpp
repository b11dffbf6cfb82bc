// The ops on packed bits (lgn_lightning/ops/bits.py): checks, memory formats and threads.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "bits_word_dtype.h"
#include "tensors.h"

namespace lgn {
namespace {

Tensor pack_bits(const Tensor& x, int64_t bits) {
  const at::ScalarType words = word_dtype(bits);
  arguments::pack_bits(x);
  Tensor out = new_feature_major((x.size(0) + bits - 1) / bits, x.size(1), words);
  if (x.numel() == 0) return out;
  const Rows rows = rows_of(out);
  const auto* from = static_cast<const uint8_t*>(x.const_data_ptr());
  parallel_for((x.size(1) + 63) / 64, 16, [&](int64_t begin, int64_t end) {
    kernels().bits.pack(from, x.stride(0), x.stride(1), x.size(0), begin * 64, std::min(end * 64, x.size(1)),
                        reinterpret_cast<uint8_t*>(rows.data), rows.pitch);
  });
  return out;
}

Tensor unpack_bits(const Tensor& x, int64_t batch) {
  arguments::unpack_bits(x);
  check_rows(x, batch);
  Tensor out = at::empty({batch, x.size(1)}, at::device(at::kCPU).dtype(at::kBool));
  if (out.numel() == 0) return out;
  const Rows rows = feature_major(x);
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  parallel_for((x.size(1) + 63) / 64, 16, [&](int64_t begin, int64_t end) {
    kernels().bits.unpack(reinterpret_cast<const uint8_t*>(rows.data), rows.pitch, batch, x.size(1), begin * 64,
                          std::min(end * 64, x.size(1)), to);
  });
  return out;
}

Tensor logic_packed(const Tensor& x, const Tensor& gates, const Tensor& a_in, const Tensor& b_in) {
  arguments::logic_packed(x, gates, a_in, b_in);
  const Tensor a = a_in.contiguous(), b = b_in.contiguous(), ids = gates.contiguous();
  const auto plan = plan_of(a, b, x.size(1));  // checks the indices
  Tensor y = new_feature_major(x.size(0), a.numel(), x.scalar_type());
  if (y.numel() == 0) return y;
  const Rows from = feature_major(x), to = rows_of(y);
  parallel_for(a.numel(), word_grain(to.pitch / 8), [&](int64_t begin, int64_t end) {
    kernels().bits.logic(reinterpret_cast<const uint8_t*>(from.data), from.pitch, ids.const_data_ptr<uint8_t>(),
                         a.const_data_ptr<int32_t>(), b.const_data_ptr<int32_t>(), begin, end,
                         reinterpret_cast<uint8_t*>(to.data), to.pitch);
  });
  return y;
}

Tensor group_sum_packed(const Tensor& x, int64_t k, int64_t batch) {
  arguments::group_sum_packed(x);
  check_rows(x, batch);
  check_groups(x.size(1), k);
  Tensor out = at::zeros({batch, k}, at::device(at::kCPU).dtype(at::kInt));
  if (out.numel() == 0 || x.size(1) == 0) return out;
  const Rows rows = feature_major(x);
  const int64_t group = x.size(1) / k, words = (batch + 63) / 64;
  int32_t* to = out.mutable_data_ptr<int32_t>();
  parallel_for(words * k, word_grain(group), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t word = task / k, c = task % k;
      int32_t counts[64];
      kernels().bits.count(reinterpret_cast<const uint8_t*>(rows.data), rows.pitch, word * 8, c * group,
                           (c + 1) * group, counts);
      for (int64_t s = 0; s < 64 && word * 64 + s < batch; s++) to[(word * 64 + s) * k + c] = counts[s];
    }
  });
  return out;
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("pack_bits", &lgn::pack_bits);
  m.impl("unpack_bits", &lgn::unpack_bits);
  m.impl("logic_packed", &lgn::logic_packed);
  m.impl("group_sum_packed", &lgn::group_sum_packed);
}
