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
  arguments::choices_backward(grad, x, table, a, b, candidates_in);
  const at::ScalarType storage = native_dtype(x.scalar_type()), sums = sum_dtype(storage);
  const int64_t gates = grad.size(1), inputs = x.size(1), batch = x.size(0);
  const Tensor tables = table.to(sums).contiguous(), first = a.contiguous(), second = b.contiguous(),
               candidates = candidates_in.contiguous();
  check_candidates(candidates, inputs);
  check_wires(first, second, inputs);
  const int32_t *at_a = first.const_data_ptr<int32_t>(), *at_b = second.const_data_ptr<int32_t>();
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
  arguments::choose(logits_in, candidates_in, level_in);
  check_choice(logits_in, level_in, noise);
  const Tensor logits = logits_in.contiguous(), candidates = candidates_in.contiguous(), level = level_in.contiguous();
  const int64_t gates = logits.size(0), count = logits.size(2);
  const bool draws = noise > 0;
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
  arguments::choose_backward(grad_in, shares_in);
  const Tensor grad = grad_in.contiguous(), shares = shares_in.contiguous();
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
