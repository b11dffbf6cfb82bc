// Runs every CPU kernel, without torch, on exactly sized buffers and odd shapes, and compares with plain loops. Built
// by `make sanitize` with AddressSanitizer and UndefinedBehaviorSanitizer; exits with 1 at the first wrong number.
#include <cstdio>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "dense_plan_cache.h"
#include "driver.h"
#include "isa.h"
#include "pool.h"

namespace {

using namespace lgn;

template <typename S, typename Sum>
void run_layer(const LayerKernels& k, int64_t batch, int64_t inputs, int64_t gates, int64_t classes, bool streaming,
               double tolerance) {
  const int64_t element = sizeof(S), pitch = (batch * element + 63) / 64 * 64, lines = pitch / 64;
  const int64_t per_line = 64 / element;
  std::vector<int32_t> a(static_cast<size_t>(gates)), b(a);
  for (int64_t g = 0; g < gates; g++) {
    a[static_cast<size_t>(g)] = below(inputs);
    b[static_cast<size_t>(g)] = below(inputs);
  }
  const auto plan = cached_plan(a.data(), b.data(), gates, inputs, [] { return true; });
  std::vector<Sum> table(static_cast<size_t>(gates) * 4);
  for (auto& entry : table) entry = static_cast<Sum>(uniform());
  Buffer x(pitch * inputs), grad(pitch * gates), y(pitch * gates), gx(pitch * (inputs + plan->side_rows));
  const auto at = [&](Buffer& rows, int64_t row, int64_t sample) -> S& {
    return *reinterpret_cast<S*>(rows.data + row * pitch + sample * element);
  };
  for (int64_t s = 0; s < batch; s++) {
    for (int64_t i = 0; i < inputs; i++) set(at(x, i, s), uniform());
    for (int64_t g = 0; g < gates; g++) set(at(grad, g, s), uniform() - 0.5);
  }
  const int64_t row_bytes = kTileLines * 64 * k.sum_bytes / k.element_bytes, group = gates / classes;
  std::vector<Sum> sums(static_cast<size_t>(gates) * 8, 0), table_grad(static_cast<size_t>(gates) * 4);
  std::vector<double> expected_gx(static_cast<size_t>(inputs * batch), 0),
      expected_table(static_cast<size_t>(gates) * 4, 0);
  const bool wide = k.element_bytes < k.sum_bytes;
  for (int64_t line = 0; line < lines; line += kTileLines) {
    const int count = static_cast<int>(std::min<int64_t>(kTileLines, lines - line));
    const Tile tile{line * 64, count, std::min(count * per_line, batch - line * per_line)};
    k.forward(x.data, pitch, table.data(), plan->steps.data(), 0, gates / 2, y.data, pitch, tile, streaming);
    k.forward(x.data, pitch, table.data(), plan->steps.data(), gates / 2, gates, y.data, pitch, tile, streaming);
    Buffer wide_rows(row_bytes * (inputs + plan->side_rows));
    for (const int32_t i : plan->unused) {
      std::memset(wide ? wide_rows.data + i * row_bytes : gx.data + i * pitch + tile.offset, 0,
                  static_cast<size_t>(wide ? row_bytes : count * 64));
    }
    char* rows = wide ? wide_rows.data : gx.data;
    const int64_t rows_pitch = wide ? row_bytes : pitch;
    const bool one = lines <= kTileLines;
    const TableRows to{one ? table_grad.data() : sums.data(), !one};
    for (const Chunk& chunk : plan->chunks) {
      k.backward(x.data, pitch, grad.data, pitch, 0, table.data(), plan->steps.data() + chunk.begin,
                 chunk.end - chunk.begin, {rows, rows_pitch, plan->side_list.data() + chunk.side_begin, wide}, to, tile,
                 streaming);
    }
    for (const Plan::Merge& merge : plan->merges) {
      k.add_row(rows + merge.side * rows_pitch, rows + merge.row * rows_pitch, wide, tile);
    }
    if (wide) k.pack_rows(wide_rows.data, row_bytes, inputs, gx.data, pitch, tile);
    Buffer group_sums(row_bytes * classes), scratch(row_bytes * classes), again(row_bytes * classes);
    k.group_forward(x.data, pitch, table.data(), plan->steps.data(), gates, group, classes, group_sums.data,
                    scratch.data, tile);
    k.group_rows(y.data, pitch, gates, group, again.data, tile);
    std::vector<Sum> unwanted(static_cast<size_t>(gates) * 4, 0);
    Buffer compact(row_bytes * classes);
    std::memset(compact.data, 0, static_cast<size_t>(row_bytes * classes));
    k.backward(x.data, pitch, compact.data, row_bytes, group, table.data(), plan->steps.data(), gates, {},
               {unwanted.data(), true}, tile, streaming);
    for (const Sum value : unwanted) check(value, 0, 0, "compact gradient of zeros");
    for (int64_t c = 0; c < classes; c++) {
      for (int64_t s = 0; s < tile.samples; s++) {
        double total = 0;
        for (int64_t g = c * group; g < (c + 1) * group; g++) total += get(at(y, g, line * per_line + s));
        const size_t slot = static_cast<size_t>(c * row_bytes / k.sum_bytes + k.slot(s));
        check(static_cast<double>(reinterpret_cast<Sum*>(group_sums.data)[slot]), total, 10 * tolerance,
              "group_forward");
        check(static_cast<double>(reinterpret_cast<Sum*>(again.data)[slot]), total, 1e-5, "group_rows");
      }
    }
  }
  for (int64_t g = 0; g < gates; g++) {
    const Sum* t = table.data() + 4 * g;
    for (int64_t s = 0; s < batch; s++) {
      const size_t i = static_cast<size_t>(a[static_cast<size_t>(g)]),
                   j = static_cast<size_t>(b[static_cast<size_t>(g)]);
      const double u = get(at(x, static_cast<int64_t>(i), s)), v = get(at(x, static_cast<int64_t>(j), s));
      const double d = get(at(grad, g, s)), n = static_cast<double>(batch);
      check(get(at(y, g, s)), t[0] * (1 - u) * (1 - v) + t[1] * (1 - u) * v + t[2] * u * (1 - v) + t[3] * u * v,
            tolerance, "forward");
      expected_gx[i * static_cast<size_t>(n) + static_cast<size_t>(s)] +=
          d * ((t[2] - t[0]) * (1 - v) + (t[3] - t[1]) * v);
      expected_gx[j * static_cast<size_t>(n) + static_cast<size_t>(s)] +=
          d * ((t[1] - t[0]) * (1 - u) + (t[3] - t[2]) * u);
      double* e = expected_table.data() + 4 * g;
      e[0] += d * (1 - u) * (1 - v);
      e[1] += d * (1 - u) * v;
      e[2] += d * u * (1 - v);
      e[3] += d * u * v;
    }
  }
  if (lines > kTileLines) k.table_gradient(sums.data(), 2, gates, 0, gates, table_grad.data());
  for (size_t e = 0; e < expected_table.size(); e++) {
    check(static_cast<double>(table_grad[e]), expected_table[e], 1e-4, "table gradient");
  }
  for (int64_t i = 0; i < inputs; i++) {
    for (int64_t s = 0; s < batch; s++) {
      check(get(at(gx, i, s)), expected_gx[static_cast<size_t>(i * batch + s)], 10 * tolerance, "gradient of x");
    }
  }
}

template <typename Sum>
void run_softmax(const LayerKernels& k, int64_t gates, bool with_kept, double tolerance) {
  std::vector<Sum> logits(static_cast<size_t>(gates) * 16), out(logits), table(static_cast<size_t>(gates) * 4),
      grad(table);
  for (auto& value : logits) value = static_cast<Sum>(20 * uniform() - 10);
  for (auto& value : grad) value = static_cast<Sum>(uniform() - 0.5);
  std::vector<Sum> kept(static_cast<size_t>((gates + kSoftmaxGates - 1) / kSoftmaxGates * kSoftmaxGates) * 16);
  void* const keep = with_kept ? kept.data() : nullptr;
  k.softmax_table(logits.data(), 0, gates, table.data(), keep);
  k.softmax_table_backward(grad.data(), logits.data(), keep, 0, gates, out.data());
  for (int64_t g = 0; g < gates; g++) {
    double total = 0, p[16], t[4] = {}, mean = 0;
    for (int q = 0; q < 16; q++) total += p[q] = std::exp(static_cast<double>(logits[static_cast<size_t>(16 * g + q)]));
    for (int q = 0; q < 16; q++) {
      for (int e = 0; e < 4; e++) t[e] += q >> (3 - e) & 1 ? p[q] / total : 0;
    }
    for (int e = 0; e < 4; e++) {
      check(static_cast<double>(table[static_cast<size_t>(4 * g + e)]), t[e], tolerance, "softmax_table");
      mean += t[e] * static_cast<double>(grad[static_cast<size_t>(4 * g + e)]);
    }
    for (int q = 0; q < 16; q++) {
      double of_gate = -mean;
      for (int e = 0; e < 4; e++)
        of_gate += q >> (3 - e) & 1 ? static_cast<double>(grad[static_cast<size_t>(4 * g + e)]) : 0;
      check(static_cast<double>(out[static_cast<size_t>(16 * g + q)]), p[q] / total * of_gate, tolerance,
            "softmax backward");
    }
  }
}

void run_bits(const BitKernels& k, int64_t batch, int64_t inputs, int64_t gates) {
  const int64_t pitch = ((batch + 7) / 8 + 63) / 64 * 64;
  std::vector<uint8_t> x(static_cast<size_t>(batch * inputs)), back(x.size()), ids(static_cast<size_t>(gates));
  for (auto& bit : x) bit = static_cast<uint8_t>(below(2));
  std::vector<int32_t> a(static_cast<size_t>(gates)), b(a);
  for (int64_t g = 0; g < gates; g++) {
    a[static_cast<size_t>(g)] = below(inputs);
    b[static_cast<size_t>(g)] = below(inputs);
    ids[static_cast<size_t>(g)] = static_cast<uint8_t>(below(16));
  }
  Buffer words(pitch * inputs), y(pitch * gates);
  auto* w = reinterpret_cast<uint8_t*>(words.data);
  auto* out = reinterpret_cast<uint8_t*>(y.data);
  k.pack(x.data(), inputs, 1, batch, 0, inputs, w, pitch);
  k.unpack(w, pitch, batch, inputs, 0, inputs, back.data());
  if (x != back) check(1, 0, 0, "pack and unpack");
  k.logic(w, pitch, ids.data(), a.data(), b.data(), 0, gates, out, pitch);
  for (int64_t byte = 0; byte * 8 < batch; byte += 8) {
    int32_t counts[64];
    k.count(out, pitch, byte, 0, gates, counts);
    for (int64_t s = byte * 8; s < std::min(batch, byte * 8 + 64); s++) {
      int expected = 0;
      for (int64_t g = 0; g < gates; g++) {
        const int u = x[static_cast<size_t>(s * inputs + a[static_cast<size_t>(g)])];
        const int v = x[static_cast<size_t>(s * inputs + b[static_cast<size_t>(g)])];
        expected += ids[static_cast<size_t>(g)] >> (3 - 2 * u - v) & 1;
      }
      check(counts[s - byte * 8], expected, 0, "packed logic and count");
    }
  }
}

void run_pool_and_cache() {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t] {
      std::vector<int32_t> a(50, t), b(50, 3);
      for (int n = 0; n < 200; n++) {
        void* block = pool_get(1000 * (n % 7 + 1) + (n % 50 == 0 ? 5 << 20 : 0));
        std::memset(block, t, 1000);
        a[0] = n % 3;
        if (cached_plan(a.data(), b.data(), 50, 9, [] { return true; })->steps.size() != 50) check(1, 0, 0, "plan");
        pool_put(block);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const PoolUse use = pool_use();
  if (use.live != 0 || use.cached > use.peak + use.peak / 4) check(1, 0, 0, "pool");
  const int32_t bad[1] = {9}, good[1] = {0};
  if (make_plan(good, bad, 1, 9).bad_gate != 0) check(1, 0, 0, "index out of range");
}

}  // namespace

int main() {
  const Kernels& k = kernels();
  std::printf("kernels: %s\n", k.name);
  for (const int64_t batch : {1, 3, 16, 17, 64, 100, 112, 128, 300}) {
    for (const int64_t inputs : {1, 5, 40}) {
      for (const bool streaming : {false, true}) {
        run_layer<float, float>(k.f32, batch, inputs, 30, 3, streaming, 1e-5);
        run_layer<Bf16Bits, float>(k.bf16, batch, inputs, 30, 3, streaming, 2e-2);
        run_layer<double, double>(kernels_f64(), batch, inputs, 30, 3, streaming, 1e-12);
      }
      run_bits(k.bits, batch, inputs, 33);
    }
  }
  // Enough gates for several chunks, that share few inputs or many.
  for (const int64_t batch : {5, 130}) {
    for (const int64_t inputs : {300, 4096, 9000}) {
      run_layer<float, float>(k.f32, batch, inputs, 4500, 3, false, 1e-4);
      run_layer<Bf16Bits, float>(k.bf16, batch, inputs, 4500, 3, false, 2e-2);
    }
  }
  for (const int64_t gates : {1, 15, 16, 33, 100}) {
    for (const bool with_kept : {false, true}) run_softmax<float>(k.f32, gates, with_kept, 1e-5);
    run_softmax<double>(kernels_f64(), gates, false, 1e-12);
  }
  run_trees();
  run_bit_trees();
  run_luts();
  run_choices();
  run_pool_and_cache();
  std::printf("ok\n");
  return 0;
}
