// Every engine of the circuit library on random circuits against plain loops, with exactly sized buffers.
#include <algorithm>
#include <vector>

#include "api.h"
#include "driver.h"

namespace {

struct Net {
  LgnCircuit circuit;
  std::vector<uint8_t> tables;
  std::vector<int32_t> a, b, c, outputs;

  Net(int64_t inputs, int64_t gates, int64_t classes, int64_t group) {
    for (int64_t i = 0; i < gates; ++i) {
      const int64_t node = inputs + i;
      const auto operand = [&] {
        return below(2) ? below(node) : static_cast<int>(node - 1 - below(std::min<int64_t>(node, 8)));
      };
      tables.push_back(static_cast<uint8_t>(below(16)));
      a.push_back(operand());
      b.push_back(operand());
    }
    for (int64_t i = 0; i < classes * group; ++i) outputs.push_back(below(inputs + gates));
    describe(inputs, classes);
  }
  // Room for what a pass makes of another net.
  Net(const Net& other, bool three) : outputs(other.outputs) {
    const size_t capacity = static_cast<size_t>(lgn_pass_capacity(&other.circuit));
    tables.resize(capacity);
    a.resize(capacity);
    b.resize(capacity);
    if (three) c.resize(capacity);
    LgnResult result{0, tables.data(), a.data(), b.data(), three ? c.data() : nullptr, outputs.data()};
    const int status = three ? lgn_map_luts(&other.circuit, 3, &result)
                             : lgn_rewrite(&other.circuit, kAbsorbInverters | kHashStructure, &result);
    check(status, 0, 0, "pass");
    for (auto* operands : {&a, &b, &c})
      if (!operands->empty()) operands->resize(static_cast<size_t>(result.gates));
    tables.resize(static_cast<size_t>(result.gates));
    describe(other.circuit.inputs, other.circuit.classes);
  }
  Net(const Net&) = delete;

 private:
  void describe(int64_t inputs, int64_t classes) {
    circuit = {inputs,
               static_cast<int64_t>(tables.size()),
               static_cast<int64_t>(outputs.size()),
               classes,
               tables.data(),
               a.data(),
               b.data(),
               c.empty() ? nullptr : c.data(),
               outputs.data()};
  }
};

std::vector<int32_t> plain_scores(const Net& net, const std::vector<uint8_t>& bits, int64_t samples) {
  const LgnCircuit& circuit = net.circuit;
  const int64_t group = circuit.outputs / circuit.classes;
  std::vector<int32_t> scores(static_cast<size_t>(samples * circuit.classes), 0);
  std::vector<uint8_t> values(static_cast<size_t>(circuit.inputs + circuit.gates));
  for (int64_t s = 0; s < samples; ++s) {
    std::copy_n(bits.begin() + s * circuit.inputs, circuit.inputs, values.begin());
    for (int64_t i = 0; i < circuit.gates; ++i)
      values[static_cast<size_t>(circuit.inputs + i)] =
          net.tables[static_cast<size_t>(i)] >> (3 - 2 * values[static_cast<size_t>(net.a[static_cast<size_t>(i)])] -
                                                 values[static_cast<size_t>(net.b[static_cast<size_t>(i)])]) &
          1;
    for (int64_t i = 0; i < circuit.outputs; ++i)
      scores[static_cast<size_t>(s * circuit.classes + i / group)] +=
          values[static_cast<size_t>(net.outputs[static_cast<size_t>(i)])];
  }
  return scores;
}

void run(LgnEngine* engine, const Net& net, int64_t samples, int64_t levels, const char* what) {
  const int64_t inputs = net.circuit.inputs, classes = net.circuit.classes, row = inputs / levels;
  std::vector<uint8_t> thresholds, bits(static_cast<size_t>(samples * inputs));
  for (int64_t t = 0; t < levels; ++t) thresholds.push_back(static_cast<uint8_t>(levels == 1 ? 0 : below(256)));
  std::vector<uint8_t> bytes(static_cast<size_t>(samples * row));
  std::vector<int32_t> scores(static_cast<size_t>(samples * classes)), best(static_cast<size_t>(samples));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(levels == 1 ? below(2) : below(256));
  for (int64_t s = 0; s < samples; ++s)
    for (int64_t t = 0; t < levels; ++t)
      for (int64_t p = 0; p < row; ++p)
        bits[static_cast<size_t>(s * inputs + t * row + p)] =
            bytes[static_cast<size_t>(s * row + p)] > thresholds[static_cast<size_t>(t)];
  const std::vector<int32_t> expected = plain_scores(net, bits, samples);
  const int64_t words = (samples + 63) / 64;
  std::vector<uint64_t> packed(static_cast<size_t>(inputs * words), 0);
  for (int64_t s = 0; s < samples; ++s)
    for (int64_t i = 0; i < inputs; ++i)
      packed[static_cast<size_t>(i * words + s / 64)] |= uint64_t(bits[static_cast<size_t>(s * inputs + i)]) << s % 64;
  for (const bool from_bytes : {true, false}) {
    int32_t* const out = scores.data();
    int32_t* const winners = best.data();
    const int status =
        from_bytes ? lgn_engine_bytes(engine, bytes.data(), row, thresholds.data(), levels, samples, 2, out, winners)
                   : lgn_engine_packed(engine, packed.data(), words, samples, 2, out, winners, nullptr);
    check(status, 0, 0, what);
    for (int64_t s = 0; s < samples; ++s) {
      int64_t winner = 0;
      for (int64_t k = 0; k < classes; ++k) {
        check(out[s * classes + k], expected[static_cast<size_t>(s * classes + k)], 0, what);
        if (out[s * classes + k] > out[s * classes + winner]) winner = k;
      }
      check(winners[s], static_cast<double>(winner), 0, what);
    }
  }
}

}  // namespace

int main() {
  const int64_t shapes[][5] = {// inputs, levels, gates, classes, outputs a class
                               {1, 1, 0, 1, 1},    {5, 1, 40, 3, 2},      {64, 1, 300, 2, 17},
                               {65, 1, 500, 4, 9}, {130, 2, 2500, 3, 33}, {378, 3, 3000, 10, 20}};
  for (const auto& [inputs, levels, gates, classes, group] : shapes) {
    const Net raw(inputs, gates, classes, group), small(raw, false), mapped(small, true);
    for (const Net* net : {&raw, &small, &mapped})
      for (int32_t most = 3; most <= 6; ++most) {
        const size_t count = net->tables.size();
        std::vector<uint8_t> sizes(count);
        std::vector<int32_t> depths(count), leaves(6 * count);
        std::vector<uint64_t> covered(count);
        check(lgn_cover_luts(&net->circuit, most, sizes.data(), depths.data(), leaves.data(), covered.data()), 0, 0,
              "cover");
        for (const uint8_t size : sizes) check(size <= most, 1, 0, "cover");
      }
    for (int32_t isa = 0; isa <= lgn_best_isa(); ++isa)
      for (const LgnEngineKind kind : {kInterpreter, kMachineCode}) {
        if (kind == kMachineCode && isa == kGeneric) continue;
        const bool three = kind == kMachineCode && isa == kAvx512;
        char message[256] = "";
        for (const Net* net : {three ? &mapped : &small, three ? nullptr : &raw}) {
          if (!net) continue;
          LgnEngine* const engine = lgn_engine_new(&net->circuit, kind, isa, message, sizeof message);
          if (!engine) {
            std::printf("%s\n", message);
            std::exit(1);
          }
          // Scores are those of the net before the passes.
          for (const int64_t samples : {1, 63, 512, 700}) run(engine, raw, samples, levels, "engine");
          lgn_engine_free(engine);
        }
      }
  }
  std::printf("circuits: ok\n");
  return 0;
}
