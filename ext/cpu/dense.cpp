// The ops of layers and group sums (lgn_lightning/ops/dense.py) on real values: checks, memory formats, tiles and
// threads.
//
// Only torch/library.h and single operator headers: the whole of torch takes a compiler four times as long.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstring>
#include <tuple>

#include "dense_ops.h"
#include "tensors.h"

namespace lgn {
namespace {

// The checked arguments that every op on a layer has, in the forms that kernels take.
struct Layer {
  Tensor table, a, b;
  Rows x;
  const LayerKernels& kernels;
  std::shared_ptr<const Plan> plan;
  int64_t batch, inputs, gates;

  Layer(const Tensor& x_in, const Tensor& table_in, const Tensor& a_in, const Tensor& b_in)
      : table(table_in.to(sum_dtype(x_in.scalar_type())).contiguous()),
        a(a_in.contiguous()),
        b(b_in.contiguous()),
        x(feature_major(x_in.to(native_dtype(x_in.scalar_type())))),
        kernels(layer_kernels_of(native_dtype(x_in.scalar_type()))),
        plan(plan_of(a, b, x_in.size(1))),
        batch(x_in.size(0)),
        inputs(x_in.size(1)),
        gates(a_in.numel()) {}
  const void* table_data() const { return table.const_data_ptr(); }
};

}  // namespace

Tensor logic(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b) {
  arguments::logic(x, table, a, b);
  const Layer layer(x, table, a, b);
  Tensor y = new_feature_major(layer.batch, layer.gates, native_dtype(x.scalar_type()));
  if (layer.batch > 0 && layer.gates > 0) {
    const Tiling tiling(layer.batch, layer.kernels.element_bytes);
    const Rows out = rows_of(y);
    const bool stream = out.pitch * layer.gates >= kStreamForward;
    const auto tiles = static_cast<int64_t>(tiling.tiles.size());
    parallel_for(tiles * layer.gates, kGrain, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t tile = begin / layer.gates, from = begin % layer.gates;
        const int64_t to = std::min(layer.gates, from + (end - begin));
        layer.kernels.forward(layer.x.data, layer.x.pitch, layer.table_data(), layer.plan->steps.data(), from, to,
                              out.data, out.pitch, tiling.tiles[static_cast<size_t>(tile)], stream);
        begin += to - from;
      }
    });
  }
  return x.scalar_type() == y.scalar_type() ? y : y.to(x.scalar_type());
}

namespace {

// The gradients of a layer. One tile is cut into the chunks of the plan, several tiles are taken side by side.
class Backward {
 public:
  // `grad` as the kernels take it: rows of the batch, or, if group > 0, a block of compact rows for each tile.
  struct Source {
    const char* data;
    int64_t pitch, group, tile_bytes;
  };

  Backward(const Layer& layer, at::ScalarType dtype, const Source& grad, bool need_grad_x)
      : layer_(layer), plan_(*layer.plan), k_(layer.kernels), grad_(grad), tiling_(layer.batch, k_.element_bytes) {
    const at::ScalarType native = native_dtype(dtype);
    grad_table_ = new_rows(layer.gates, 4, sum_dtype(dtype));
    grad_x_ = at::empty({0}, at::device(at::kCPU).dtype(native));
    if (need_grad_x) {
      // Side rows lie behind the tensor, in the same storage.
      const Tensor rows = new_feature_major(layer.batch, layer.inputs + plan_.side_rows, native);
      grad_x_ = rows.narrow(1, 0, layer.inputs);
      out_ = static_cast<char*>(rows.mutable_data_ptr());
      pitch_ = rows.stride(1) * k_.element_bytes;
      // Elements shorter than a sum are rounded once, at the end, if an input has more gates than one visit serves.
      wide_ = k_.element_bytes < k_.sum_bytes && plan_.max_uses > 2;
      stream_ = !wide_ && pitch_ * layer.inputs >= kStreamBackward && plan_.revisits * 16 < layer.gates;
    }
  }

  // Those of x and of the table.
  std::tuple<Tensor, Tensor> run() {
    if (layer_.batch == 0 || layer_.gates == 0) {
      grad_table_.zero_();
      if (out_) grad_x_.zero_();
    } else if (tiling_.tiles.size() == 1) {
      one_tile();
    } else {
      many_tiles();
    }
    return {grad_x_, grad_table_};
  }

 private:
  GradRows rows_of_tile() const {
    const int64_t wide_pitch = kTileLines * kLineBytes * k_.sum_bytes / k_.element_bytes;
    if (!wide_) return {out_, pitch_, nullptr, false};
    const int64_t rows = layer_.inputs + plan_.side_rows;
    return {static_cast<char*>(pool_get(wide_pitch * rows)), wide_pitch, nullptr, true};
  }

  void visit(const Chunk& chunk, GradRows rows, const TableRows& table, size_t t) const {
    rows.side = plan_.side_list.data() + chunk.side_begin;
    k_.backward(layer_.x.data, layer_.x.pitch, grad_.data + static_cast<int64_t>(t) * grad_.tile_bytes, grad_.pitch,
                grad_.group, layer_.table_data(), plan_.steps.data() + chunk.begin, chunk.end - chunk.begin, rows,
                table, tiling_.tiles[t], stream_);
  }

  // Adds side rows, clears the rows that no gate has, rounds.
  void finish(const GradRows& rows, const Tile& tile) const {
    if (rows.data == nullptr) return;
    for (const Plan::Merge& merge : plan_.merges) {
      k_.add_row(rows.data + merge.side * rows.pitch, rows.data + merge.row * rows.pitch, wide_, tile);
    }
    const int64_t skip = wide_ ? 0 : tile.offset, bytes = wide_ ? rows.pitch : tile.lines * kLineBytes;
    for (const int32_t i : plan_.unused) {
      std::memset(rows.data + i * rows.pitch + skip, 0, static_cast<size_t>(bytes));
    }
    if (wide_) {
      k_.pack_rows(rows.data, rows.pitch, layer_.inputs, out_, pitch_, tile);
      pool_put(rows.data);
    }
  }

  void one_tile() {
    const GradRows rows = out_ ? rows_of_tile() : GradRows{};
    const TableRows table{grad_table_.mutable_data_ptr(), false};
    parallel_for(static_cast<int64_t>(plan_.chunks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) visit(plan_.chunks[static_cast<size_t>(c)], rows, table, 0);
    });
    finish(rows, tiling_.tiles[0]);
  }

  void many_tiles() {
    const int64_t n = layer_.gates, slab_bytes = n * 4 * k_.sum_bytes;
    const Tensor sums = pooled({tiling_.slabs * n, 4}, {4, 1}, tiling_.slabs * slab_bytes, grad_table_.scalar_type());
    char* data = static_cast<char*>(sums.mutable_data_ptr());
    parallel_for(tiling_.slabs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slab = begin; slab < end; slab++) {
        const TableRows table{data + slab * slab_bytes, true};
        std::memset(table.data, 0, static_cast<size_t>(slab_bytes));
        const auto first = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab)]);
        const auto last = static_cast<size_t>(tiling_.slab_begin[static_cast<size_t>(slab) + 1]);
        for (size_t t = first; t < last; t++) {
          const GradRows rows = out_ ? rows_of_tile() : GradRows{};
          for (const Chunk& chunk : plan_.chunks) visit(chunk, rows, table, t);
          finish(rows, tiling_.tiles[t]);
        }
      }
    });
    void* result = grad_table_.mutable_data_ptr();
    parallel_for(n, kGrain,
                 [&](int64_t begin, int64_t end) { k_.table_gradient(data, tiling_.slabs, n, begin, end, result); });
  }

  const Layer& layer_;
  const Plan& plan_;
  const LayerKernels& k_;
  const Source grad_;
  const Tiling tiling_;
  Tensor grad_x_, grad_table_;
  char* out_ = nullptr;
  int64_t pitch_ = 0;
  bool wide_ = false, stream_ = false;
};

std::tuple<Tensor, Tensor> backward(const Layer& layer, const Tensor& x, const Tensor& table,
                                    const Backward::Source& grad, bool need_grad_x) {
  const auto [grad_x, grad_table] = Backward(layer, x.scalar_type(), grad, need_grad_x).run();
  return {grad_x.to(x.scalar_type()), grad_table.to(table.scalar_type())};
}

}  // namespace

std::tuple<Tensor, Tensor> logic_backward(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& a,
                                          const Tensor& b, bool need_grad_x) {
  arguments::logic_backward(grad, x, table, a, b);
  const Layer layer(x, table, a, b);
  const Rows rows = feature_major(grad.to(native_dtype(x.scalar_type())));
  return backward(layer, x, table, {rows.data, rows.pitch, 0, 0}, need_grad_x);
}

namespace {

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

}  // namespace

std::tuple<Tensor, Tensor> logic_group_sum_backward(const Tensor& grad, const Tensor& x, const Tensor& table,
                                                    const Tensor& a, const Tensor& b, double tau, bool need_grad_x) {
  arguments::logic_group_sum_backward(grad, x, table, a, b);
  const int64_t classes = grad.size(1);
  check_groups(a.size(0), classes);
  const Layer layer(x, table, a, b);
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
  return backward(layer, x, table, {data, row_bytes, layer.gates / classes, tile_bytes}, need_grad_x);
}

namespace {

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

// Runs `compute(tile, part, sums, scratch)` for every tile and part, adds the parts in order and spreads the unpacked
// sums over [batch, classes].
template <typename Compute>
Tensor group_sums(int64_t batch, int64_t classes, double tau, at::ScalarType dtype, const LayerKernels& k,
                  int64_t parts, const Compute& compute) {
  Tensor out = at::empty({batch, classes}, at::device(at::kCPU).dtype(sum_dtype(dtype)));
  if (batch == 0) return out;
  const Tiling tiling(batch, k.element_bytes);
  const int64_t row = kTileLines * kLineBytes / k.element_bytes * k.sum_bytes, bytes = classes * row;
  const auto tiles = static_cast<int64_t>(tiling.tiles.size());
  const Tensor buffer = pooled({tiles * parts * 2 * bytes}, {1}, tiles * parts * 2 * bytes, at::kByte);
  char* data = static_cast<char*>(buffer.mutable_data_ptr());
  parallel_for(tiles * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      char* sums = data + task * 2 * bytes;
      compute(tiling.tiles[static_cast<size_t>(task / parts)], task % parts, sums, sums + bytes);
    }
  });
  for (int64_t t = 0; t < tiles; t++) {
    const Tile& tile = tiling.tiles[static_cast<size_t>(t)];
    char* sums = data + t * parts * 2 * bytes;
    for (int64_t part = 1; part < parts; part++) {
      for (int64_t c = 0; c < classes; c++) k.add_row(sums + part * 2 * bytes + c * row, sums + c * row, true, tile);
    }
    if (k.sum_bytes == sizeof(double)) {
      scatter_sums(sums, k, classes, tau, tile, static_cast<double*>(out.mutable_data_ptr()));
    } else {
      scatter_sums(sums, k, classes, tau, tile, static_cast<float*>(out.mutable_data_ptr()));
    }
  }
  return out;
}

}  // namespace

Tensor logic_group_sum(const Tensor& x, const Tensor& table, const Tensor& a, const Tensor& b, int64_t k, double tau) {
  arguments::logic_group_sum(x, table, a, b);
  check_groups(a.size(0), k);
  const Layer layer(x, table, a, b);
  if (layer.gates == 0) return at::zeros({layer.batch, k}, at::device(at::kCPU).dtype(sum_dtype(x.scalar_type())));
  const Plan& plan = *layer.plan;
  return group_sums(layer.batch, k, tau, x.scalar_type(), layer.kernels, static_cast<int64_t>(plan.chunks.size()),
                    [&](const Tile& tile, int64_t part, char* sums, char* scratch) {
                      const Chunk& chunk = plan.chunks[static_cast<size_t>(part)];
                      layer.kernels.group_forward(layer.x.data, layer.x.pitch, layer.table_data(),
                                                  plan.steps.data() + chunk.begin, chunk.end - chunk.begin,
                                                  layer.gates / k, k, sums, scratch, tile);
                    });
}

Tensor group_sum(const Tensor& x, int64_t k, double tau) {
  arguments::group_sum(x);
  check_groups(x.size(1), k);
  if (x.size(1) == 0) return at::zeros({x.size(0), k}, at::device(at::kCPU).dtype(sum_dtype(x.scalar_type())));
  const Rows rows = feature_major(x.to(native_dtype(x.scalar_type())));
  const LayerKernels& kernels = layer_kernels_of(native_dtype(x.scalar_type()));
  return group_sums(x.size(0), k, tau, x.scalar_type(), kernels, 1, [&](const Tile& tile, int64_t, char* sums, char*) {
    kernels.group_rows(rows.data, rows.pitch, x.size(1), x.size(1) / k, sums, tile);
  });
}

Tensor group_sum_backward(const Tensor& grad, int64_t features, double tau, at::ScalarType dtype) {
  arguments::group_sum_backward(grad);
  TORCH_CHECK_TYPE(at::isFloatingType(dtype), "dtype must be one of floating point");
  check_groups(features, grad.size(1));
  const at::ScalarType native = native_dtype(dtype);
  const int64_t batch = grad.size(0), group = features / std::max<int64_t>(grad.size(1), 1);
  const Tensor classes = new_feature_major(batch, grad.size(1), native),
               out = new_feature_major(batch, features, native);
  classes.copy_(grad.div(tau));
  const Rows from = rows_of(classes), to = rows_of(out);
  parallel_for(batch > 0 ? features : 0, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; f++) {
      std::memcpy(to.data + f * to.pitch, from.data + f / group * from.pitch, static_cast<size_t>(to.pitch));
    }
  });
  return native == dtype ? out : out.to(dtype);
}

}  // namespace lgn

TORCH_LIBRARY_IMPL(lgn, CPU, m) {
  m.impl("logic", &lgn::logic);
  m.impl("logic_backward", &lgn::logic_backward);
  m.impl("group_sum", &lgn::group_sum);
  m.impl("group_sum_backward", &lgn::group_sum_backward);
  m.impl("logic_group_sum", &lgn::logic_group_sum);
  m.impl("logic_group_sum_backward", &lgn::logic_group_sum_backward);
}
