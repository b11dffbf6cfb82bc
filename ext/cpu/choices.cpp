// The gradient that learns connections (lgn_lightning/ops/choices.py).
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

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

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) { m.impl("choices_backward", &lgn::choices_backward); }
