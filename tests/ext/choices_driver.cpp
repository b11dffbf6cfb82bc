// The kernels of learned connections, against plain loops.
#include <algorithm>
#include <vector>

#include "dense_plan.h"
#include "driver.h"
#include "isa.h"

namespace {

using namespace lgn;

// Gradients of the shares of candidates, from inputs that are reals (`S`) and, for float, also from packed bits.
template <typename S, typename Sum>
void run_gradient(const LayerKernels& k, int64_t batch, int64_t features, int64_t gates, int64_t count,
                  double tolerance) {
  const int64_t element = sizeof(S), pitch = (batch * element + 63) / 64 * 64, per_line = 64 / element;
  const int64_t bit_pitch = (batch + 127) / 128 * 16;
  const bool bits = sizeof(S) == 4;
  std::vector<int32_t> a(static_cast<size_t>(gates)), b(a.size()), candidates(static_cast<size_t>(gates * 2 * count));
  for (auto* list : {&a, &b, &candidates}) {
    for (auto& index : *list) index = below(features);
  }
  Buffer x(pitch * features), grad(pitch * gates);
  std::vector<uint8_t> packed(static_cast<size_t>(bit_pitch * features), 0);
  const auto at = [&](const Buffer& rows, int64_t row, int64_t s) -> S& {
    return reinterpret_cast<S*>(rows.data + row * pitch)[s];
  };
  for (int64_t s = 0; s < batch; s++) {
    for (int64_t f = 0; f < features; f++) {
      const bool one = uniform() > 0.5;
      set(at(x, f, s), bits ? one : uniform());
      uint8_t& byte = packed[static_cast<size_t>(f * bit_pitch + s / 8)];
      byte = static_cast<uint8_t>(byte | one << (s % 8));
    }
    for (int64_t g = 0; g < gates; g++) set(at(grad, g, s), 2 * uniform() - 1);
  }
  // The packed kernel reads whole lines of the gradient, 0 where no sample is.
  Buffer clean(pitch * gates);
  std::memset(clean.data, 0, static_cast<size_t>(pitch * gates));
  for (int64_t g = 0; g < gates; g++) {
    std::memcpy(clean.data + g * pitch, grad.data + g * pitch, static_cast<size_t>(batch * element));
  }
  std::vector<Sum> table(static_cast<size_t>(gates * 4)), out(candidates.size());
  for (auto& entry : table) entry = static_cast<Sum>(uniform());
  std::vector<float> of_bits(candidates.size()), sums(table.size());
  for (int64_t line = 0; line < pitch / 64; line += kTileLines) {
    const int64_t lines = std::min<int64_t>(kTileLines, pitch / 64 - line);
    const Tile tile{line * 64, static_cast<int>(lines), std::min(lines * per_line, batch - line * per_line)};
    k.choices(x.data, pitch, grad.data, pitch, table.data(), a.data(), b.data(), candidates.data(), count, 0, gates,
              out.data(), line > 0, tile);
    if constexpr (sizeof(S) == 4) {
      // Of the tile: the kernel knows where its bits are.
      const BitGates layer{packed.data(), bit_pitch, a.data(), b.data(), table.data()};
      kernels().bit_layer.learned(layer, {candidates.data(), count, nullptr, of_bits.data(), line > 0}, nullptr,
                                  clean.data + line * 64, pitch, 0, 0, gates, {sums.data(), true}, tile);
    }
  }
  for (int64_t g = 0; bits && g < gates; g++) {
    double expected[4] = {};
    for (int64_t s = 0; s < batch; s++) {
      const double value = get(at(grad, g, s)), u = get(at(x, a[static_cast<size_t>(g)], s)),
                   v = get(at(x, b[static_cast<size_t>(g)], s));
      expected[0] += value;
      expected[1] += value * u;
      expected[2] += value * v;
      expected[3] += value * u * v;
    }
    for (size_t k = 0; k < 4; k++)
      check(sums[static_cast<size_t>(4 * g) + k], expected[k], tolerance, "sum of a table");
  }
  for (int64_t g = 0; g < gates; g++) {
    const Sum* t = table.data() + 4 * g;
    const double mixed = t[3] - t[1] - t[2] + t[0];
    for (int64_t side = 0; side < 2; side++) {
      for (int64_t c = 0; c < count; c++) {
        const auto place = static_cast<size_t>((2 * g + side) * count + c);
        double expected = 0;
        for (int64_t s = 0; s < batch; s++) {
          const double u = get(at(x, a[static_cast<size_t>(g)], s)), v = get(at(x, b[static_cast<size_t>(g)], s));
          const double slope = side == 0 ? t[2] - t[0] + mixed * v : t[1] - t[0] + mixed * u;
          expected += get(at(grad, g, s)) * slope * get(at(x, candidates[place], s));
        }
        check(static_cast<double>(out[place]), expected, tolerance, "gradient of a candidate");
        if (bits) check(static_cast<double>(of_bits[place]), expected, tolerance, "gradient of a candidate on bits");
      }
    }
  }
}

// Gradients that a layer of bits pulls from the one above, of a single tile: the rows themselves, and then the same
// from rows that are pulled as from rows that are there.
void run_pull(int64_t batch, int64_t features, int64_t gates, int64_t above, int64_t count, int64_t group) {
  const int64_t pitch = kTileLines * kLineBytes;
  const auto lines = static_cast<int>((batch * 4 + kLineBytes - 1) / kLineBytes);
  const Tile tile{0, lines, batch};
  const auto draw = [](int64_t number, int64_t top) {
    std::vector<int32_t> indices(static_cast<size_t>(number));
    for (auto& index : indices) index = below(top);
    return indices;
  };
  const auto reals = [](int64_t number) {
    std::vector<float> made(static_cast<size_t>(number));
    for (auto& value : made) value = static_cast<float>(uniform());
    return made;
  };
  const std::vector<int32_t> a = draw(gates, features), b = draw(gates, features), upper_a = draw(above, gates),
                             upper_b = draw(above, gates), candidates = draw(gates * 2 * count, features);
  const std::vector<float> table = reals(4 * gates), upper_table = reals(4 * above), shares = reals(gates * 2 * count);
  std::vector<uint8_t> x(static_cast<size_t>(features * kBitRowBytes)), y(static_cast<size_t>(gates * kBitRowBytes));
  for (auto* bits : {&x, &y}) {
    for (auto& byte : *bits) byte = static_cast<uint8_t>(below(256));
  }
  const int64_t rows = group ? above / group : above;
  Buffer grad(rows * pitch), pulled(gates * pitch), kept(gates * pitch);
  const auto at = [&](const Buffer& of, int64_t row, int64_t s) -> float& {
    return reinterpret_cast<float*>(of.data + row * pitch)[s];
  };
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t s = 0; s < lines * 16; s++) at(grad, row, s) = s < batch ? static_cast<float>(uniform() - 0.5) : 0.0f;
  }
  std::vector<int32_t> begin(static_cast<size_t>(gates + 1));
  std::vector<BitUse> uses(static_cast<size_t>(2 * above + kUsesAhead));
  list_uses(upper_a.data(), upper_b.data(), above, gates, nullptr, begin.data(), uses.data());
  const BitGates upper{y.data(), kBitRowBytes, upper_a.data(), upper_b.data(), upper_table.data()};
  const PulledRows from{upper, 1.5f, grad.data, pitch, group, uses.data(), begin.data()};
  kernels().bit_layer.pull(from, 0, gates, pulled.data, pitch, tile);
  std::vector<double> expected(static_cast<size_t>(gates * batch), 0.0);
  const auto bit = [&](int64_t row, int64_t s) {
    return y[static_cast<size_t>(row * kBitRowBytes + s / 8)] >> (s % 8) & 1;
  };
  for (int64_t g = 0; g < above; g++) {
    const int32_t i = upper_a[static_cast<size_t>(g)], j = upper_b[static_cast<size_t>(g)];
    const float* t = upper_table.data() + 4 * g;
    for (int64_t s = 0; s < batch; s++) {
      const double value = 1.5 * at(grad, group ? g / group : g, s);
      expected[static_cast<size_t>(i * batch + s)] += value * (bit(j, s) ? t[3] - t[1] : t[2] - t[0]);
      expected[static_cast<size_t>(j * batch + s)] += value * (bit(i, s) ? t[3] - t[2] : t[1] - t[0]);
    }
  }
  for (int64_t g = 0; g < gates; g++) {
    for (int64_t s = 0; s < batch; s++) {
      check(at(pulled, g, s), expected[static_cast<size_t>(g * batch + s)], 1e-5, "pulled gradient");
    }
  }
  const BitGates layer{x.data(), kBitRowBytes, a.data(), b.data(), table.data()};
  std::vector<float> first(candidates.size()), second(first), first_table(table.size()), second_table(first_table);
  const auto run = [&](const PulledRows* source, const Buffer& rows_of, const float* of, std::vector<float>& out,
                       std::vector<float>& out_table) {
    kernels().bit_layer.learned(layer, {candidates.data(), count, of, out.data(), false}, source, rows_of.data, pitch,
                                0, 0, gates, {out_table.data(), false}, tile);
  };
  run(nullptr, pulled, nullptr, first, first_table);
  kernels().choice.choose_backward(first.data(), shares.data(), count, 0, 2 * gates, first.data());
  run(&from, kept, shares.data(), second, second_table);
  for (size_t k = 0; k < first.size(); k++) check(second[k], first[k], 1e-5, "pulled gradient of a logit");
  for (size_t k = 0; k < first_table.size(); k++) check(second_table[k], first_table[k], 1e-5, "pulled table");
  for (int64_t g = 0; g < gates; g++) {
    if (begin[static_cast<size_t>(g)] == begin[static_cast<size_t>(g) + 1]) continue;
    for (int64_t s = 0; s < batch; s++) check(at(kept, g, s), at(pulled, g, s), 0, "pulled gradient kept");
  }
  // Below, gates that nobody reads are left out, and the others listed once a side.
  std::vector<int32_t> lower_begin(static_cast<size_t>(features + 1));
  std::vector<BitUse> lower(static_cast<size_t>(2 * gates + kUsesAhead));
  list_uses(a.data(), b.data(), gates, features, begin.data(), lower_begin.data(), lower.data());
  int32_t next = 0;
  for (int64_t i = 0; i < features; i++) {
    check(lower_begin[static_cast<size_t>(i)], next, 0, "first use of an input");
    for (int64_t g = 0; g < gates; g++) {
      const auto gate = static_cast<size_t>(g);
      if (begin[gate] == begin[gate + 1]) continue;
      for (uint32_t side = 0; side < 2; side++) {
        if ((side ? b : a)[gate] != i) continue;
        check(lower[static_cast<size_t>(next)].use, static_cast<double>(2 * g + side), 0, "use of an input");
        check(lower[static_cast<size_t>(next++)].other, (side ? a : b)[gate], 0, "other input of a use");
      }
    }
  }
  check(lower_begin[static_cast<size_t>(features)], next, 0, "number of uses");
}

// The choice itself: a draw at the boundaries of the cumulated shares, the likeliest without noise, and the shares.
void run_choice(const ChoiceKernels& k, int64_t gates, int64_t count) {
  const size_t rows = static_cast<size_t>(2 * gates), width = static_cast<size_t>(count);
  std::vector<float> logits(rows * width), level(rows), shares(logits.size()), again(logits.size());
  std::vector<int32_t> candidates(logits.size()), a(rows / 2), b(rows / 2);
  for (auto& logit : logits) logit = static_cast<float>(6 * uniform() - 3);
  for (size_t k2 = 0; k2 < candidates.size(); k2++) candidates[k2] = static_cast<int32_t>(k2 % width);
  for (auto& u : level) u = static_cast<float>(uniform() * 0.999);
  for (const float noise : {0.0f, 0.5f, 1.0f}) {
    k.choose(logits.data(), candidates.data(), count, noise > 0 ? level.data() : nullptr, noise, 0, 2 * gates, a.data(),
             b.data(), shares.data());
    for (size_t r = 0; r < rows; r++) {
      const float* row = logits.data() + r * width;
      const int64_t chosen = (r % 2 ? b : a)[r / 2];
      double sum = 0, drawn = 0, below_it = 0;
      for (size_t c = 0; c < width; c++) sum += std::exp(row[c]);
      for (size_t c = 0; c < width; c++) {
        check(shares[r * width + c], std::exp(row[c]) / sum, 1e-5, "share of a candidate");
        if (noise > 0) drawn += std::exp(row[c] / noise);
      }
      if (noise == 0) {
        check(row[chosen], *std::max_element(row, row + count), 0, "likeliest candidate");
        continue;
      }
      for (int64_t c = 0; c < chosen; c++) below_it += std::exp(row[c] / noise) / drawn;
      const double above_it = below_it + std::exp(row[chosen] / noise) / drawn;
      if (level[r] < below_it - 1e-5 || level[r] > above_it + 1e-5) check(level[r], below_it, 0, "drawn candidate");
    }
  }
  k.choose_backward(logits.data(), shares.data(), count, 0, 2 * gates, again.data());
  for (size_t r = 0; r < rows; r++) {
    double mean = 0;
    for (size_t c = 0; c < width; c++) mean += static_cast<double>(logits[r * width + c]) * shares[r * width + c];
    for (size_t c = 0; c < width; c++) {
      check(again[r * width + c], shares[r * width + c] * (logits[r * width + c] - mean), 1e-5, "gradient of a logit");
    }
  }
}

}  // namespace

void run_choices() {
  for (const int64_t count : {2, 3, 8, 16, 19, 24}) {
    for (const int64_t batch : {1, 16, 17, 64, 100, 112, 128, 300}) {
      run_gradient<float, float>(kernels().f32, batch, 9, 7, count, 1e-4);
      run_gradient<double, double>(kernels_f64(), batch, 9, 7, count, 1e-11);
      run_gradient<Bf16Bits, float>(kernels().bf16, batch, 9, 7, count, 1e-4);
    }
    for (const int64_t batch : {1, 16, 17, 64, 100, 112, 128}) {
      run_pull(batch, 9, 40, 30, count, 0);
      run_pull(batch, 30, 7, 40, count, 10);
    }
    for (const int64_t gates : {1, 40, 130}) run_choice(kernels().choice, gates, count);
  }
}
