// The kernels of lookup tables, against plain loops.
#include <algorithm>
#include <vector>

#include "driver.h"
#include "isa.h"

namespace {

using namespace lgn;

template <typename S>
void run_lut(const LayerKernels& k, int inputs, int64_t batch, int64_t features, int64_t gates, double tolerance) {
  const int64_t element = sizeof(S), pitch = (batch * element + 63) / 64 * 64, per_line = 64 / element;
  const int64_t entries = int64_t{1} << inputs;
  std::vector<int32_t> indices(static_cast<size_t>(inputs * gates));
  for (auto& index : indices) index = below(features);
  const LutLayer layer{indices.data(), gates, inputs};
  Buffer x(pitch * features), y(pitch * gates), grad(pitch * gates), grad_x(pitch * features);
  std::memset(grad_x.data, 0, static_cast<size_t>(pitch * features));
  const auto at = [&](const Buffer& rows, int64_t row, int64_t s) -> S& {
    return reinterpret_cast<S*>(rows.data + row * pitch)[s];
  };
  for (int64_t s = 0; s < batch; s++) {
    for (int64_t f = 0; f < features; f++) at(x, f, s) = static_cast<S>(uniform());
    for (int64_t g = 0; g < gates; g++) at(grad, g, s) = static_cast<S>(2 * uniform() - 1);
  }
  std::vector<S> table(static_cast<size_t>(gates * entries)), grad_table(table.size(), 0);
  for (auto& entry : table) entry = static_cast<S>(uniform());
  for (int64_t line = 0; line < pitch / 64; line += kLutLines) {
    const int64_t count = std::min<int64_t>(kLutLines, pitch / 64 - line);
    const Tile tile{line * 64, static_cast<int>(count), std::min(count * per_line, batch - line * per_line)};
    k.lut.forward(layer, x.data, pitch, table.data(), 0, gates, y.data, pitch, tile);
    k.lut.backward(layer, x.data, pitch, table.data(), grad.data, pitch, 0, gates, grad_x.data, pitch,
                   grad_table.data(), tile);
    std::vector<S> alone(table.size(), 0);
    k.lut.backward(layer, x.data, pitch, table.data(), grad.data, pitch, 0, gates, nullptr, 0, alone.data(), tile);
  }
  std::vector<double> expected_x(static_cast<size_t>(features * batch), 0), expected_table(table.size(), 0);
  for (int64_t g = 0; g < gates; g++) {
    for (int64_t s = 0; s < batch; s++) {
      double value = 0;
      for (int64_t e = 0; e < entries; e++) {
        const auto factor = [&](int i) {
          const double v = at(x, indices[static_cast<size_t>(i * gates + g)], s);
          return e >> (inputs - 1 - i) & 1 ? v : 1 - v;
        };
        const double t = table[static_cast<size_t>(g * entries + e)], d = at(grad, g, s);
        double share = 1;
        for (int i = 0; i < inputs; i++) share *= factor(i);
        value += t * share;
        expected_table[static_cast<size_t>(g * entries + e)] += d * share;
        for (int i = 0; i < inputs; i++) {
          double others = e >> (inputs - 1 - i) & 1 ? d * t : -d * t;
          for (int j = 0; j < inputs; j++) others *= j == i ? 1 : factor(j);
          expected_x[static_cast<size_t>(indices[static_cast<size_t>(i * gates + g)] * batch + s)] += others;
        }
      }
      check(at(y, g, s), value, tolerance, "lut forward");
    }
  }
  for (size_t e = 0; e < table.size(); e++) check(grad_table[e], expected_table[e], 30 * tolerance, "lut table");
  for (int64_t f = 0; f < features; f++) {
    for (int64_t s = 0; s < batch; s++) {
      check(at(grad_x, f, s), expected_x[static_cast<size_t>(f * batch + s)], 30 * tolerance, "lut gradient of x");
    }
  }
}

void run_lut_bits(const LutBitKernels& k, int inputs, int64_t batch, int64_t features, int64_t gates) {
  const int64_t pitch = ((batch + 7) / 8 + 63) / 64 * 64, entries = int64_t{1} << inputs;
  std::vector<int32_t> indices(static_cast<size_t>(inputs * gates));
  for (auto& index : indices) index = below(features);
  const LutLayer layer{indices.data(), gates, inputs};
  Buffer x(pitch * features), y(pitch * gates);
  for (int64_t byte = 0; byte < pitch * features; byte++) x.data[byte] = static_cast<char>(below(256));
  std::vector<float> logits(static_cast<size_t>(gates * entries));
  for (auto& logit : logits) logit = static_cast<float>(2 * uniform() - 1);
  std::vector<int64_t> ids(static_cast<size_t>(gates));
  k.ids(logits.data(), entries, 0, gates, ids.data());
  k.forward(layer, reinterpret_cast<const uint8_t*>(x.data), pitch, ids.data(), 0, gates,
            reinterpret_cast<uint8_t*>(y.data), pitch);
  for (int64_t g = 0; g < gates; g++) {
    for (int64_t s = 0; s < batch; s++) {
      int64_t entry = 0;
      for (int i = 0; i < inputs; i++) {
        const int64_t row = indices[static_cast<size_t>(i * gates + g)];
        entry = entry * 2 + (x.data[row * pitch + s / 8] >> (s % 8) & 1);
      }
      const bool expected = logits[static_cast<size_t>(g * entries + entry)] > 0;
      check(y.data[g * pitch + s / 8] >> (s % 8) & 1, expected, 0, "lut on bits");
    }
  }
}

}  // namespace

void run_luts() {
  for (int inputs = 2; inputs <= 6; inputs++) {
    for (const int64_t batch : {1, 16, 17, 64, 100, 130}) {
      run_lut<float>(kernels().f32, inputs, batch, 9, 12, 1e-5);
      run_lut<double>(kernels_f64(), inputs, batch, 9, 12, 1e-12);
      run_lut_bits(kernels().lut_bits, inputs, batch, 9, 12);
    }
  }
}
