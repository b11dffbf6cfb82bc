#include <algorithm>
#include <numeric>

#include "order.h"
#include "program.h"

namespace lgn {
namespace {

constexpr uint32_t kForever = ~0u;

}  // namespace

Held absorb(Held x, Held y, uint8_t gate, int32_t out, std::vector<PlainGate>* gates) {
  // The table over what is stored; constants are stored 0.
  uint8_t table = 0;
  for (int e = 0; e < 4; ++e) {
    const int p = ((x.node < 0 ? 0 : e >> 1) ^ x.complemented), q = ((y.node < 0 ? 0 : e & 1) ^ y.complemented);
    table = static_cast<uint8_t>(table << 1 | (gate >> (3 - (2 * p + q)) & 1));
  }
  if (x.node == y.node && x.node >= 0) table = (table & 8 ? 12 : 0) | (table & 1 ? 3 : 0);
  const bool complement = table & 8;  // 00 gives 1: store the complement
  if (complement) table ^= 15;
  switch (table) {
    case 0:
      return {-1, complement};
    case 3:
      return {x.node, complement};
    case 5:
      return {y.node, complement};
    case 1:
      gates->push_back({x.node, y.node, out, kAnd});
      break;
    case 2:
      gates->push_back({x.node, y.node, out, kAndNot});
      break;
    case 4:
      gates->push_back({y.node, x.node, out, kAndNot});
      break;
    case 6:
      gates->push_back({x.node, y.node, out, kXor});
      break;
    default:  // 7
      gates->push_back({x.node, y.node, out, kOr});
      break;
  }
  return {out, complement};
}

GroupedProgram group_gates(const LgnCircuit& circuit) {
  const size_t nodes = static_cast<size_t>(circuit.inputs + circuit.gates);
  std::vector<Held> held(nodes);
  std::vector<PlainGate> gates;
  gates.reserve(static_cast<size_t>(circuit.gates));
  for (int64_t i = 0; i < circuit.inputs; ++i) held[i] = {static_cast<int32_t>(i), false};
  for (int64_t i = 0; i < circuit.gates; ++i) {
    const int32_t node = static_cast<int32_t>(circuit.inputs + i);
    held[node] = absorb(held[circuit.a[i]], held[circuit.b[i]], circuit.tables[i], node, &gates);
  }

  std::vector<int32_t> level(nodes, 0);
  for (const PlainGate& gate : gates) level[gate.out] = 1 + std::max(level[gate.a], level[gate.b]);
  std::stable_sort(gates.begin(), gates.end(), [&](const PlainGate& x, const PlainGate& y) {
    return level[x.out] != level[y.out] ? level[x.out] < level[y.out] : x.kind < y.kind;
  });

  // Slots by liveness: a slot is free again after the last reader of its value.
  std::vector<uint32_t> last(nodes, 0), slot(nodes, 0), free;
  for (uint32_t i = 0; i < gates.size(); ++i) last[gates[i].a] = last[gates[i].b] = i + 1;
  for (int64_t i = 0; i < circuit.outputs; ++i)
    if (held[circuit.output_nodes[i]].node >= 0) last[held[circuit.output_nodes[i]].node] = kForever;
  GroupedProgram program;
  program.slots = static_cast<uint32_t>(circuit.inputs);
  std::iota(slot.begin(), slot.begin() + circuit.inputs, 0u);
  program.wide.reserve(3 * gates.size());
  for (uint32_t i = 0; i < gates.size(); ++i) {
    const PlainGate& gate = gates[i];
    const uint32_t a = slot[gate.a], b = slot[gate.b];
    if (last[gate.a] == i + 1) free.push_back(a);
    if (gate.b != gate.a && last[gate.b] == i + 1) free.push_back(b);
    if (free.empty()) {
      slot[gate.out] = program.slots++;
    } else {
      slot[gate.out] = free.back();
      free.pop_back();
    }
    if (program.groups.empty() || program.groups.back().kind != gate.kind) program.groups.push_back({gate.kind, i, i});
    program.groups.back().end = i + 1;
    program.wide.insert(program.wide.end(), {a, b, slot[gate.out]});
  }
  if (program.slots <= 0x10000) {
    program.narrow.reserve(gates.size());
    for (size_t i = 0; i < gates.size(); ++i)
      program.narrow.push_back(uint64_t(program.wide[3 * i]) | uint64_t(program.wide[3 * i + 1]) << 16 |
                               uint64_t(program.wide[3 * i + 2]) << 32);
    program.wide.clear();
    program.wide.shrink_to_fit();
  }
  program.sums.resize(static_cast<size_t>(circuit.classes));
  const int64_t group = circuit.outputs / circuit.classes;
  for (int64_t i = 0; i < circuit.outputs; ++i) {
    const Held output = held[circuit.output_nodes[i]];
    const uint32_t place = output.node < 0 ? 0 : slot[output.node];
    program.output_slot.push_back(place);
    program.output_complemented.push_back(output.complemented);
    program.output_constant.push_back(output.node >= 0 ? 0 : output.complemented ? 2 : 1);
    if (output.node < 0) continue;
    GroupedProgram::ClassSum& sum = program.sums[i / group];
    (output.complemented ? sum.complemented : sum.plain).push_back(place);
  }
  return program;
}

}  // namespace lgn
