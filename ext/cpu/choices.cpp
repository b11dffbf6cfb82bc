// Learned connections: the choice of a step, and the gradient that learns it (lgn_lightning/ops/choices.py).
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "tensors.h"

namespace lgn {
namespace {

Tensor choices_backward(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b,
                        const Tensor& candidates_in) {
  TORCH_CHECK(grad.dim() == 2 && x.dim() == 2 && grad.size(0) == x.size(0), "grad and x must be [batch, …]");
  const at::ScalarType storage = native_dtype(x.scalar_type()), sums = sum_dtype(storage);
  const int64_t gates = grad.size(1), inputs = x.size(1), batch = x.size(0);
  const Tensor tables = table.to(sums).contiguous(), first = a.to(at::kInt).contiguous(),
               second = b.to(at::kInt).contiguous(), candidates = candidates_in.to(at::kInt).contiguous();
  TORCH_CHECK(tables.dim() == 2 && tables.size(0) == gates && tables.size(1) == 4 && first.numel() == gates &&
                  second.numel() == gates,
              "tables, a and b must be [n, 4], [n] and [n]");
  check_candidates(candidates, gates, inputs);
  const int32_t *at_a = first.const_data_ptr<int32_t>(), *at_b = second.const_data_ptr<int32_t>();
  for (int64_t g = 0; g < gates; g++) {
    TORCH_CHECK_INDEX(at_a[g] >= 0 && at_a[g] < inputs && at_b[g] >= 0 && at_b[g] < inputs, "gate ", g, " has inputs ",
                      at_a[g], " and ", at_b[g], ", but x has only ", inputs, " features");
  }
  const auto options = at::device(at::kCPU).dtype(sums);
  if (batch == 0) return at::zeros(candidates.sizes(), options);
  Tensor out = at::empty(candidates.sizes(), options);
  if (out.numel() == 0) return out;
  const Rows rows = feature_major(x.to(storage)), upper = feature_major(grad.to(storage));
  const Tiling tiling(batch, static_cast<int64_t>(c10::elementSize(storage)));
  const int64_t count = candidates.size(2);
  void* to = out.mutable_data_ptr();
  parallel_for(gates, kGrain / count + 1, [&](int64_t begin, int64_t end) {
    for (const Tile& tile : tiling.tiles) {
      layer_kernels_of(storage).choices(rows.data, rows.pitch, upper.data, upper.pitch, tables.const_data_ptr(), at_a,
                                        at_b, candidates.const_data_ptr<int32_t>(), count, begin, end, to,
                                        tile.offset > 0, tile);
    }
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> choose(const Tensor& logits_in, const Tensor& candidates_in, const Tensor& level_in,
                                          double noise) {
  TORCH_CHECK(logits_in.dim() == 3 && logits_in.size(1) == 2 && logits_in.sizes() == candidates_in.sizes(),
              "logits and candidates must be [n, 2, count]");
  TORCH_CHECK(logits_in.scalar_type() == at::kFloat, "logits are ", logits_in.scalar_type(), ", but must be float32");
  const Tensor logits = logits_in.contiguous(), candidates = candidates_in.to(at::kInt).contiguous(),
               level = level_in.to(at::kFloat).contiguous();
  const int64_t gates = logits.size(0), count = logits.size(2);
  const bool draws = noise > 0;
  TORCH_CHECK(!draws || level.numel() == 2 * gates, "level must have a number for each input of a gate");
  const Tensor a = at::empty({gates}, at::device(at::kCPU).dtype(at::kInt)), b = at::empty_like(a),
               shares = new_shares(candidates);
  const float* from = draws ? level.const_data_ptr<float>() : nullptr;
  parallel_for(count > 0 ? 2 * gates : 0, whole_vectors(2 * kGrain / std::max<int64_t>(count, 1)),
               [&](int64_t begin, int64_t end) {
                 kernels().choice.choose(logits.const_data_ptr<float>(), candidates.const_data_ptr<int32_t>(), count,
                                         from, static_cast<float>(noise), begin, end, a.mutable_data_ptr<int32_t>(),
                                         b.mutable_data_ptr<int32_t>(), shares.mutable_data_ptr<float>());
               });
  return {a, b, shares};
}

Tensor choose_backward(const Tensor& grad_in, const Tensor& shares_in) {
  const Tensor grad = grad_in.to(at::kFloat).contiguous(), shares = shares_in.to(at::kFloat).contiguous();
  TORCH_CHECK(grad.dim() == 3 && grad.sizes() == shares.sizes(), "grad and shares must be [n, 2, count]");
  Tensor out = new_shares(shares);
  const int64_t count = shares.size(2);
  parallel_for(shares.size(0) * shares.size(1), whole_vectors(4 * kGrain / std::max<int64_t>(count, 1)),
               [&](int64_t begin, int64_t end) {
                 kernels().choice.choose_backward(grad.const_data_ptr<float>(), shares.const_data_ptr<float>(), count,
                                                  begin, end, out.mutable_data_ptr<float>());
               });
  return out;
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("choices_backward", &lgn::choices_backward);
  m.impl("choose", &lgn::choose);
  m.impl("choose_backward", &lgn::choose_backward);
}
