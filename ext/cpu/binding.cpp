// The CPU kernels behind the schemas of lgn_lightning/ops/schema.py: checks, memory formats, tiles and threads.
//
// Only torch/library.h and single operator headers: the whole of torch takes a compiler four times as long.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <functional>
#include <tuple>

#include "tensors.h"

namespace lgn {
namespace {

// Results of this size are written past the caches: they would only push out what is read next.
constexpr int64_t kStreamForward = int64_t{12} << 20;
constexpr int64_t kStreamBackward = int64_t{2} << 20;

// The arguments that every op on a layer has, in the forms that kernels take.
struct Layer {
  Tensor table, a, b;
  Rows x;
  const LayerKernels& kernels;
  std::shared_ptr<const Plan> plan;
  int64_t batch, inputs, gates;

  Layer(const Tensor& x_in, const Tensor& table_in, const Tensor& a_in, const Tensor& b_in)
      : table(table_in.to(sum_dtype(x_in.scalar_type())).contiguous()),
        a(a_in.to(at::kInt).contiguous()),
        b(b_in.to(at::kInt).contiguous()),
        x(feature_major(x_in.to(native_dtype(x_in.scalar_type())))),
        kernels(layer_kernels_of(native_dtype(x_in.scalar_type()))),
        plan(plan_of(a, b, x_in.size(1))),
        batch(x_in.size(0)),
        inputs(x_in.size(1)),
        gates(a_in.numel()) {
    TORCH_CHECK(table.dim() == 2 && table.size(0) == gates && table.size(1) == 4 && b.numel() == gates,
                "table, a and b must be [n, 4], [n] and [n]");
  }
  const void* table_data() const { return table.const_data_ptr(); }
};

Tensor logic(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b) {
  const Layer layer(x, table, a, b);
  Tensor y = new_feature_major(layer.batch, layer.gates, native_dtype(x.scalar_type()));
  if (layer.batch > 0 && layer.gates > 0) {
    const Tiling tiling(layer.batch, layer.kernels.element_bytes);
    const Rows out = rows_of(y);
    const bool stream = out.pitch * layer.gates >= kStreamForward;
    // One tile of whole rows: threads share the gates.
    Tile whole = tiling.tiles[0];
    const bool narrow = padded_bytes(layer.batch * layer.kernels.element_bytes) <= kTileLines * kLineBytes;
    if (narrow) {
      whole.lines = static_cast<int>(padded_bytes(layer.batch * layer.kernels.element_bytes) / kLineBytes);
      whole.samples = layer.batch;
    }
    const int64_t tiles = narrow ? 1 : static_cast<int64_t>(tiling.tiles.size());
    parallel_for(tiles * layer.gates, kGrain, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t tile = begin / layer.gates, from = begin % layer.gates;
        const int64_t to = std::min(layer.gates, from + (end - begin));
        layer.kernels.forward(layer.x.data, layer.x.pitch, layer.table_data(), layer.plan->steps.data(), from, to,
                              out.data, out.pitch, narrow ? whole : tiling.tiles[static_cast<size_t>(tile)], stream);
        begin += to - from;
      }
    });
  }
  return x.scalar_type() == y.scalar_type() ? y : y.to(x.scalar_type());
}

// Shared by logic and logic_group_sum: `grad` as the kernels take it, per tile where it is compact.
std::tuple<Tensor, Tensor> backward(const Layer& layer, at::ScalarType dtype, const Tensor& table, const Rows* grad,
                                    const std::function<const char*(const Tile&, int64_t)>& compact,
                                    int64_t compact_pitch, int64_t group, bool need_grad_x) {
  const LayerKernels& k = layer.kernels;
  const at::ScalarType native = native_dtype(dtype);
  const int64_t n = layer.gates, part_bytes = n * 4 * k.sum_bytes;
  Tensor grad_table = new_rows(n, 4, sum_dtype(dtype));
  Tensor grad_x = need_grad_x ? new_feature_major(layer.batch, layer.inputs, native)
                              : at::empty({0}, at::device(at::kCPU).dtype(native));
  if (layer.batch == 0 || n == 0) {
    grad_table.zero_();
    if (need_grad_x) grad_x.zero_();
  } else {
    const Tiling tiling(layer.batch, k.element_bytes);
    const Tensor sums = pooled({tiling.parts * n, 4}, {4, 1}, tiling.parts * part_bytes, sum_dtype(dtype));
    char* sums_data = static_cast<char*>(sums.mutable_data_ptr());
    parallel_for(tiling.parts, 1, [&](int64_t begin, int64_t end) {
      std::memset(sums_data + begin * part_bytes, 0, static_cast<size_t>((end - begin) * part_bytes));
    });
    char* out = need_grad_x ? static_cast<char*>(grad_x.mutable_data_ptr()) : nullptr;
    const int64_t out_pitch = need_grad_x ? grad_x.stride(1) * k.element_bytes : 0;
    // Elements shorter than a sum are rounded once, at the end, if an input has more gates than one visit serves.
    const bool wide = need_grad_x && k.element_bytes < k.sum_bytes && layer.plan->max_uses > 2;
    const int64_t wide_pitch = kTileLines * kLineBytes * k.sum_bytes / k.element_bytes;
    const bool stream =
        need_grad_x && !wide && out_pitch * layer.inputs >= kStreamBackward && layer.plan->revisits * 16 < n;
    parallel_for(tiling.slabs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slab = begin; slab < end; slab++) {
        const SumRows to = tiling.sums_of(slab, sums_data, part_bytes);
        for (int64_t t = tiling.slab_begin[static_cast<size_t>(slab)];
             t < tiling.slab_begin[static_cast<size_t>(slab) + 1]; t++) {
          const Tile& tile = tiling.tiles[static_cast<size_t>(t)];
          char* rows = out;
          int64_t rows_pitch = out_pitch;
          if (wide) {
            rows = static_cast<char*>(pool_get(wide_pitch * layer.inputs));
            rows_pitch = wide_pitch;
          }
          if (need_grad_x) {
            const int64_t skip = wide ? 0 : tile.offset;
            const int64_t bytes = wide ? wide_pitch : tile.lines * kLineBytes;
            for (const int32_t i : layer.plan->unused)
              std::memset(rows + i * rows_pitch + skip, 0, static_cast<size_t>(bytes));
          }
          const char* g = grad ? grad->data : compact(tile, t);
          k.backward(layer.x.data, layer.x.pitch, g, grad ? grad->pitch : compact_pitch, group, layer.table_data(),
                     layer.plan->steps.data(), n, rows, rows_pitch, wide, to, tile, stream);
          if (wide) {
            k.pack_rows(rows, rows_pitch, layer.inputs, out, out_pitch, tile);
            pool_put(rows);
          }
        }
      }
    });
    void* result = grad_table.mutable_data_ptr();
    parallel_for(n, kGrain,
                 [&](int64_t begin, int64_t end) { k.table_gradient(sums_data, tiling.parts, n, begin, end, result); });
  }
  if (need_grad_x && native != dtype) grad_x = grad_x.to(dtype);
  if (grad_table.scalar_type() != table.scalar_type()) grad_table = grad_table.to(table.scalar_type());
  return {grad_x, grad_table};
}

std::tuple<Tensor, Tensor> logic_backward(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& a,
                                          const Tensor& b, bool need_grad_x) {
  const Layer layer(x, table, a, b);
  const Rows rows = feature_major(grad.to(native_dtype(x.scalar_type())));
  return backward(layer, x.scalar_type(), table, &rows, {}, 0, 0, need_grad_x);
}

// Copies a compact gradient [batch, k] into unpacked rows, one block of k rows a tile, zeros where no sample is.
template <typename T>
void unpack_compact(const Tensor& grad, const LayerKernels& k, const Tiling& tiling, double scale, char* out) {
  const int64_t classes = grad.size(1), row = kTileLines * kLineBytes / k.element_bytes;
  const int64_t s0 = grad.stride(0), s1 = grad.stride(1), per_line = kLineBytes / k.element_bytes;
  const T* from = grad.const_data_ptr<T>();
  std::memset(out, 0, static_cast<size_t>(static_cast<int64_t>(tiling.tiles.size()) * classes * row) * sizeof(T));
  for (size_t t = 0; t < tiling.tiles.size(); t++) {
    const Tile& tile = tiling.tiles[t];
    const int64_t first = tile.offset / kLineBytes * per_line;
    T* to = reinterpret_cast<T*>(out) + static_cast<int64_t>(t) * classes * row;
    for (int64_t s = 0; s < tile.samples; s++) {
      for (int64_t c = 0; c < classes; c++)
        to[c * row + k.slot(s)] = static_cast<T>(from[(first + s) * s0 + c * s1] * scale);
    }
  }
}

std::tuple<Tensor, Tensor> logic_group_sum_backward(const Tensor& grad, const Tensor& x, const Tensor& table,
                                                    const Tensor& a, const Tensor& b, double tau, bool need_grad_x) {
  const Layer layer(x, table, a, b);
  const int64_t classes = grad.size(1);
  TORCH_CHECK(classes > 0 && layer.gates % classes == 0, layer.gates, " gates do not divide into ", classes, " groups");
  const at::ScalarType sums = sum_dtype(x.scalar_type());
  const Tensor source = grad.to(sums);
  const Tiling tiling(layer.batch, layer.kernels.element_bytes);
  const int64_t row_bytes = kTileLines * kLineBytes / layer.kernels.element_bytes * layer.kernels.sum_bytes;
  const int64_t tile_bytes = classes * row_bytes;
  const int64_t bytes = std::max<int64_t>(static_cast<int64_t>(tiling.tiles.size()), 1) * tile_bytes;
  const Tensor unpacked = pooled({bytes}, {1}, bytes, at::kByte);
  char* data = static_cast<char*>(unpacked.mutable_data_ptr());
  if (sums == at::kDouble) {
    unpack_compact<double>(source, layer.kernels, tiling, 1.0 / tau, data);
  } else {
    unpack_compact<float>(source, layer.kernels, tiling, 1.0 / tau, data);
  }
  return backward(
      layer, x.scalar_type(), table, nullptr, [&](const Tile&, int64_t t) { return data + t * tile_bytes; }, row_bytes,
      layer.gates / classes, need_grad_x);
}

template <typename T>
void scatter_sums(const char* sums, const LayerKernels& k, int64_t classes, double tau, const Tile& tile, T* out) {
  const int64_t row = kTileLines * kLineBytes / k.element_bytes;
  const int64_t first = tile.offset / k.element_bytes;
  for (int64_t s = 0; s < tile.samples; s++) {
    for (int64_t c = 0; c < classes; c++) {
      out[(first + s) * classes + c] = reinterpret_cast<const T*>(sums)[c * row + k.slot(s)] / static_cast<T>(tau);
    }
  }
}

// Runs `compute(tile, sums, scratch)` for every tile and spreads its unpacked sums over [batch, classes].
template <typename Compute>
Tensor group_sums(int64_t batch, int64_t classes, double tau, at::ScalarType dtype, const LayerKernels& k,
                  const Compute& compute) {
  Tensor out = at::empty({batch, classes}, at::device(at::kCPU).dtype(sum_dtype(dtype)));
  if (batch == 0) return out;
  const Tiling tiling(batch, k.element_bytes);
  const int64_t bytes = classes * kTileLines * kLineBytes / k.element_bytes * k.sum_bytes;
  parallel_for(static_cast<int64_t>(tiling.tiles.size()), 1, [&](int64_t begin, int64_t end) {
    const Tensor buffer = pooled({2 * bytes}, {1}, 2 * bytes, at::kByte);
    char* sums = static_cast<char*>(buffer.mutable_data_ptr());
    for (int64_t t = begin; t < end; t++) {
      const Tile& tile = tiling.tiles[static_cast<size_t>(t)];
      compute(tile, sums, sums + bytes);
      if (k.sum_bytes == sizeof(double)) {
        scatter_sums(sums, k, classes, tau, tile, static_cast<double*>(out.mutable_data_ptr()));
      } else {
        scatter_sums(sums, k, classes, tau, tile, static_cast<float*>(out.mutable_data_ptr()));
      }
    }
  });
  return out;
}

Tensor logic_group_sum(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b, int64_t k, double tau) {
  const Layer layer(x, table, a, b);
  TORCH_CHECK(k > 0 && layer.gates % k == 0, layer.gates, " gates do not divide into ", k, " groups");
  if (layer.gates == 0) return at::zeros({layer.batch, k}, at::device(at::kCPU).dtype(sum_dtype(x.scalar_type())));
  return group_sums(
      layer.batch, k, tau, x.scalar_type(), layer.kernels, [&](const Tile& tile, char* sums, char* scratch) {
        layer.kernels.group_forward(layer.x.data, layer.x.pitch, layer.table_data(), layer.plan->steps.data(),
                                    layer.gates, layer.gates / k, sums, scratch, tile);
      });
}

Tensor group_sum(const Tensor& x, int64_t k, double tau) {
  TORCH_CHECK(k > 0 && x.size(1) % k == 0, x.size(1), " features do not divide into ", k, " groups");
  if (x.size(1) == 0) return at::zeros({x.size(0), k}, at::device(at::kCPU).dtype(sum_dtype(x.scalar_type())));
  const Rows rows = feature_major(x.to(native_dtype(x.scalar_type())));
  const LayerKernels& kernels = layer_kernels_of(native_dtype(x.scalar_type()));
  return group_sums(x.size(0), k, tau, x.scalar_type(), kernels, [&](const Tile& tile, char* sums, char*) {
    kernels.group_rows(rows.data, rows.pitch, x.size(1), x.size(1) / k, sums, tile);
  });
}

Tensor softmax_table(const Tensor& logits) {
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = logits.to(dtype).contiguous();
  TORCH_CHECK(source.dim() == 2 && source.size(1) == 16, "logits must be [n, 16]");
  Tensor table = new_rows(source.size(0), 4, dtype);
  const LayerKernels& k = layer_kernels_of(dtype);
  const void* from = source.const_data_ptr();
  void* to = table.mutable_data_ptr();
  parallel_for((source.size(0) + 63) / 64, kGrain / 64, [&](int64_t begin, int64_t end) {
    k.softmax_table(from, begin * 64, std::min(end * 64, source.size(0)), to);
  });
  return dtype == logits.scalar_type() ? table : table.to(logits.scalar_type());
}

Tensor softmax_table_backward(const Tensor& grad, const Tensor& logits) {
  const at::ScalarType dtype = sum_dtype(logits.scalar_type());
  const Tensor source = logits.to(dtype).contiguous(), upper = grad.to(dtype).contiguous();
  TORCH_CHECK(source.dim() == 2 && source.size(1) == 16, "logits must be [n, 16]");
  TORCH_CHECK(upper.dim() == 2 && upper.size(0) == source.size(0) && upper.size(1) == 4, "grad must be [n, 4]");
  Tensor out = new_rows(source.size(0), 16, dtype);
  const LayerKernels& k = layer_kernels_of(dtype);
  const void* from = source.const_data_ptr();
  const void* with = upper.const_data_ptr();
  void* to = out.mutable_data_ptr();
  parallel_for((source.size(0) + 63) / 64, kGrain / 64, [&](int64_t begin, int64_t end) {
    k.softmax_table_backward(with, from, begin * 64, std::min(end * 64, source.size(0)), to);
  });
  return dtype == logits.scalar_type() ? out : out.to(logits.scalar_type());
}

at::ScalarType word_dtype(int64_t bits) {
  switch (bits) {
    case 8:
      return at::kChar;
    case 16:
      return at::kShort;
    case 32:
      return at::kInt;
    case 64:
      return at::kLong;
    default:
      TORCH_CHECK_VALUE(false, "bits is ", bits, ", but samples are packed into words of 8, 16, 32 or 64 bits");
  }
}

Tensor pack_bits(const Tensor& x, int64_t bits) {
  const at::ScalarType words = word_dtype(bits);
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kBool, "x must be bool [batch, n]");
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
  const int64_t bits = static_cast<int64_t>(x.element_size()) * 8;
  TORCH_CHECK(x.dim() == 2 && x.size(0) == (batch + bits - 1) / bits, x.size(0), " rows of words do not hold ", batch,
              " samples");
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
  const Tensor a = a_in.to(at::kInt).contiguous(), b = b_in.to(at::kInt).contiguous(), ids = gates.contiguous();
  TORCH_CHECK(x.dim() == 2 && ids.scalar_type() == at::kByte && ids.numel() == a.numel() && b.numel() == a.numel(),
              "x must be words [rows, in], gates uint8 [n], a and b int32 [n]");
  const auto plan = plan_of(a, b, x.size(1));  // checks the indices
  Tensor y = new_feature_major(x.size(0), a.numel(), x.scalar_type());
  if (y.numel() == 0) return y;
  const Rows from = feature_major(x), to = rows_of(y);
  parallel_for(a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels().bits.logic(reinterpret_cast<const uint8_t*>(from.data), from.pitch, ids.const_data_ptr<uint8_t>(),
                         a.const_data_ptr<int32_t>(), b.const_data_ptr<int32_t>(), begin, end,
                         reinterpret_cast<uint8_t*>(to.data), to.pitch);
  });
  return y;
}

Tensor group_sum_packed(const Tensor& x, int64_t k, int64_t batch) {
  const int64_t bits = static_cast<int64_t>(x.element_size()) * 8;
  TORCH_CHECK(x.dim() == 2 && k > 0 && x.size(1) % k == 0, x.size(1), " features do not divide into ", k, " groups");
  TORCH_CHECK(x.size(0) == (batch + bits - 1) / bits, x.size(0), " rows of words do not hold ", batch, " samples");
  Tensor out = at::zeros({batch, k}, at::device(at::kCPU).dtype(at::kInt));
  if (out.numel() == 0 || x.size(1) == 0) return out;
  const Rows rows = feature_major(x);
  const int64_t group = x.size(1) / k, words = (batch + 63) / 64;
  int32_t* to = out.mutable_data_ptr<int32_t>();
  parallel_for(words * k, 1, [&](int64_t begin, int64_t end) {
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
  m.impl("softmax_table", &lgn::softmax_table);
  m.impl("softmax_table_backward", &lgn::softmax_table_backward);
  m.impl("logic", &lgn::logic);
  m.impl("logic_backward", &lgn::logic_backward);
  m.impl("group_sum", &lgn::group_sum);
  m.impl("logic_group_sum", &lgn::logic_group_sum);
  m.impl("logic_group_sum_backward", &lgn::logic_group_sum_backward);
  m.impl("pack_bits", &lgn::pack_bits);
  m.impl("unpack_bits", &lgn::unpack_bits);
  m.impl("logic_packed", &lgn::logic_packed);
  m.impl("group_sum_packed", &lgn::group_sum_packed);
}

// For `lgn doctor`, which asks with ctypes.
extern "C" __attribute__((visibility("default"))) const char* lgn_cpu_isa() { return lgn::kernels().name; }
