// The ops of lgn_lightning/ops/lut.py: checks, memory formats, tiles and threads.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstring>
#include <tuple>

#include "tensors.h"

namespace lgn {
namespace {

// The wiring of a layer, its indices checked.
struct Wiring {
  Tensor owner;
  LutLayer layer;

  Wiring(const Tensor& indices, int64_t features) : owner(indices.contiguous()) {
    layer = {owner.const_data_ptr<int32_t>(), owner.size(1), static_cast<int>(owner.size(0))};
    for (int64_t k = 0; k < owner.numel(); k++) {
      TORCH_CHECK_INDEX(layer.indices[k] >= 0 && layer.indices[k] < features, "gate ", k % layer.gates, " has input ",
                        layer.indices[k], ", but x has only ", features, " features; indices must be in 0 … ",
                        features - 1);
    }
  }
};

// Other dtypes than float and double are computed in float: the sums of a row must not be rounded one by one.
const LutKernels& lut_kernels_of(at::ScalarType dtype) { return layer_kernels_of(dtype).lut; }

// `made`, feature-major, in another dtype and still feature-major.
Tensor in_dtype(const Tensor& made, at::ScalarType dtype) {
  if (made.scalar_type() == dtype || made.dim() != 2) return made.to(dtype);
  Tensor out = new_feature_major(made.size(0), made.size(1), dtype);
  out.copy_(made);
  return out;
}

Tensor lut(const Tensor& x_in, const Tensor& table_in, const Tensor& indices) {
  arguments::lut(x_in, table_in, indices);
  check_lut(indices, table_in.size(1));
  const at::ScalarType dtype = sum_dtype(x_in.scalar_type());
  const Wiring wiring(indices, x_in.size(1));
  const int64_t gates = wiring.layer.gates, batch = x_in.size(0);
  const Tensor table = table_in.to(dtype).contiguous();
  const Tensor y = new_feature_major(batch, gates, dtype);
  if (y.numel() > 0) {
    const Rows x = feature_major(x_in.to(dtype)), out = rows_of(y);
    const std::vector<Tile> tiles = Tiling(batch, static_cast<int64_t>(y.element_size()), kLutLines).tiles;
    const LutKernels& kernels = lut_kernels_of(dtype);
    const void* entries = table.const_data_ptr();
    const int64_t grain = kGrain >> wiring.layer.inputs << 2;
    parallel_for(static_cast<int64_t>(tiles.size()) * gates, grain, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t from = begin % gates, to = std::min(gates, from + (end - begin));
        kernels.forward(wiring.layer, x.data, x.pitch, entries, from, to, out.data, out.pitch,
                        tiles[static_cast<size_t>(begin / gates)]);
        begin += to - from;
      }
    });
  }
  return in_dtype(y, x_in.scalar_type());
}

std::tuple<Tensor, Tensor> lut_backward(const Tensor& grad_in, const Tensor& x_in, const Tensor& table_in,
                                        const Tensor& indices, bool need_grad_x) {
  arguments::lut_backward(grad_in, x_in, table_in, indices);
  check_lut(indices, table_in.size(1));
  const at::ScalarType dtype = sum_dtype(x_in.scalar_type());
  const Wiring wiring(indices, x_in.size(1));
  const LutLayer& layer = wiring.layer;
  const int64_t batch = x_in.size(0), entries = layer.entries();
  const Tensor table = table_in.to(dtype).contiguous();
  Tensor grad_x =
      need_grad_x ? new_feature_major(batch, x_in.size(1), dtype) : at::empty({0}, at::device(at::kCPU).dtype(dtype));
  const auto element = static_cast<int64_t>(table.element_size());
  const Tiling tiling(batch, element, kLutLines);
  const int64_t slabs = std::max<int64_t>(tiling.slabs, 1);
  const int64_t slab_bytes = layer.gates * entries * element;
  const Tensor sums = new_rows(slabs * layer.gates, entries, dtype);
  char* data = static_cast<char*>(sums.mutable_data_ptr());
  const Rows x = feature_major(x_in.to(dtype)), grad = feature_major(grad_in.to(dtype));
  const Rows to = need_grad_x ? rows_of(grad_x) : Rows{grad_x, nullptr, 0};
  const LutKernels& kernels = lut_kernels_of(dtype);
  const void* from = table.const_data_ptr();
  parallel_for(slabs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slab = begin; slab < end; slab++) {
      if (slab_bytes > 0) std::memset(data + slab * slab_bytes, 0, static_cast<size_t>(slab_bytes));
      const auto at = static_cast<size_t>(slab);
      for (int64_t k = tiling.slab_begin[at]; tiling.slabs > 0 && k < tiling.slab_begin[at + 1]; k++) {
        const Tile& tile = tiling.tiles[static_cast<size_t>(k)];
        for (int64_t row = 0; to.data && row < x_in.size(1); row++) {
          std::memset(to.data + row * to.pitch + tile.offset, 0, static_cast<size_t>(tile.lines * kLineBytes));
        }
        kernels.backward(layer, x.data, x.pitch, from, grad.data, grad.pitch, 0, layer.gates, to.data, to.pitch,
                         data + slab * slab_bytes, tile);
      }
    }
  });
  Tensor grad_table = sums;
  if (slabs > 1) {
    grad_table = new_rows(layer.gates, entries, dtype);
    const auto add = [&]<typename T>(T* out, const T* parts) {
      parallel_for(layer.gates * entries, kGrain * 8, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; k++) {
          T total = parts[k];
          for (int64_t slab = 1; slab < slabs; slab++) total += parts[slab * layer.gates * entries + k];
          out[k] = total;
        }
      });
    };
    if (dtype == at::kDouble) {
      add(grad_table.mutable_data_ptr<double>(), sums.const_data_ptr<double>());
    } else {
      add(grad_table.mutable_data_ptr<float>(), sums.const_data_ptr<float>());
    }
  }
  return {in_dtype(grad_x, x_in.scalar_type()), grad_table.to(table_in.scalar_type())};
}

Tensor lut_packed(const Tensor& x, const Tensor& ids_in, const Tensor& indices) {
  arguments::lut_packed(x, ids_in, indices);
  check_lut(indices);
  const Tensor ids = ids_in.contiguous();
  const Wiring wiring(indices, x.size(1));
  Tensor y = new_feature_major(x.size(0), wiring.layer.gates, x.scalar_type());
  if (y.numel() == 0) return y;
  const Rows from = feature_major(x), to = rows_of(y);
  parallel_for(wiring.layer.gates, kGrain, [&](int64_t begin, int64_t end) {
    kernels().lut_bits.forward(wiring.layer, reinterpret_cast<const uint8_t*>(from.data), from.pitch,
                               ids.const_data_ptr<int64_t>(), begin, end, reinterpret_cast<uint8_t*>(to.data),
                               to.pitch);
  });
  return y;
}

Tensor lut_ids(const Tensor& logits_in) {
  arguments::lut_ids(logits_in);
  check_lut_logits(logits_in);
  const Tensor logits = logits_in.to(at::kFloat).contiguous();
  Tensor out = at::empty({logits.size(0)}, at::device(at::kCPU).dtype(at::kLong));
  parallel_for(logits.size(0), kGrain, [&](int64_t begin, int64_t end) {
    kernels().lut_bits.ids(logits.const_data_ptr<float>(), logits.size(1), begin, end, out.mutable_data_ptr<int64_t>());
  });
  return out;
}

}  // namespace
}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("lut", &lgn::lut);
  m.impl("lut_backward", &lgn::lut_backward);
  m.impl("lut_packed", &lgn::lut_packed);
  m.impl("lut_ids", &lgn::lut_ids);
}
