// Turns the group sums into gates: as soon as three bits of one class and weight are there, a full adder makes them one
// bit of that weight and one of the next (a carry-save adder tree in the order of evaluation).
#include <utility>

#include "order.h"
#include "program.h"

namespace lgn {
namespace {

constexpr uint8_t kSum3 = 0x96, kCarry3 = 0xE8, kSum2 = 0x66, kCarry2 = 0x88, kOnes = 0xFF;

uint8_t reverse_bits(uint8_t x) {
  uint8_t result = 0;
  for (int i = 0; i < 8; ++i) result = static_cast<uint8_t>(result << 1 | (x >> i & 1));
  return result;
}

// Reads a gate as an operation; operands that it ignores go.
Operation operation_of(const LgnCircuit& circuit, int64_t gate) {
  const uint32_t a = circuit.a[gate], b = circuit.b[gate], c = circuit.c ? circuit.c[gate] : circuit.b[gate];
  uint8_t imm = 0;  // bit 4a + 2b + c
  if (circuit.c)
    imm = reverse_bits(circuit.tables[gate]);
  else
    for (int e = 0; e < 8; ++e) imm |= static_cast<uint8_t>((circuit.tables[gate] >> (3 - (e >> 1)) & 1) << e);
  const bool needs_a = (imm >> 4) != (imm & 15);
  const bool needs_b = (imm >> 2 & 0x33) != (imm & 0x33);
  const bool needs_c = (imm >> 1 & 0x55) != (imm & 0x55);
  Operation op{{a, b, c}, static_cast<uint32_t>(circuit.inputs + gate), 3, imm};
  if (needs_a && needs_b && needs_c) return op;
  // With two operands x, y the result for (x, y) is bit 2x + y, twice.
  const auto two = [&](uint32_t x, uint32_t y, int weight_x, int weight_y) {
    op.operands = 2;
    op.in[0] = op.in[1] = x;
    op.in[2] = y;
    uint8_t table = 0;
    for (int e = 0; e < 8; ++e)
      table |= static_cast<uint8_t>((imm >> ((e >> 1 & 1) * weight_x | (e & 1) * weight_y) & 1) << e);
    op.table = table;
  };
  if (!needs_a)
    two(needs_b ? b : c, needs_c ? c : b, needs_b ? 2 : 1, needs_c ? 1 : 2);
  else if (!needs_b)
    two(a, needs_c ? c : a, 4, needs_c ? 1 : 4);
  else
    two(a, b, 4, 2);
  if (op.in[1] == op.in[2]) {  // one operand: only the cases x = y occur; make the table agree on them
    const uint8_t zero = op.table & 1, one = op.table >> 3 & 1;
    op.table = static_cast<uint8_t>((one ? 0xAA : 0) | (zero ? 0x55 : 0));
  }
  return op;
}

// The adders of both kinds of programs. A bit is a value, or whatever else a kind of program counts.
template <class Bit, class Self>
class Fuser {
 public:
  explicit Fuser(const LgnCircuit& circuit) : net_(circuit), pending_(static_cast<size_t>(circuit.classes)) {
    program_.values = static_cast<uint32_t>(circuit.inputs + circuit.gates);
    program_.planes.resize(static_cast<size_t>(circuit.classes));
    program_.offset.assign(static_cast<size_t>(circuit.classes), 0);
  }

  FusedProgram run() {
    const size_t nodes = static_cast<size_t>(net_.inputs + net_.gates);
    const int64_t group = net_.outputs / net_.classes;
    // Outputs of each node, as lists in one array.
    std::vector<int64_t> start(nodes + 1, 0);
    for (int64_t i = 0; i < net_.outputs; ++i) ++start[net_.output_nodes[i] + 1];
    for (size_t i = 0; i < nodes; ++i) start[i + 1] += start[i];
    std::vector<int32_t> classes(static_cast<size_t>(net_.outputs));
    std::vector<int64_t> fill(start.begin(), start.end() - 1);
    for (int64_t i = 0; i < net_.outputs; ++i) classes[fill[net_.output_nodes[i]]++] = static_cast<int32_t>(i / group);
    const auto count = [&](int64_t node) {
      for (int64_t i = start[node]; i < start[node + 1]; ++i) self().count(classes[i], node);
    };
    for (int64_t i = 0; i < net_.inputs; ++i) count(i);
    for (int64_t gate : chain_order(net_)) {
      self().gate(gate);
      count(net_.inputs + gate);
    }
    for (int32_t c = 0; c < net_.classes; ++c) finish(c);
    return std::move(program_);
  }

 protected:
  Self& self() { return static_cast<Self&>(*this); }

  std::vector<Bit>& bits(int32_t c, size_t weight) {
    auto& weights = pending_[c];
    if (weights.size() <= weight) weights.resize(weight + 1);
    return weights[weight];
  }

  void add(int32_t c, size_t weight, Bit value) {
    for (;; ++weight) {
      std::vector<Bit>& held = bits(c, weight);
      held.push_back(value);
      if (held.size() < 3) return;
      const auto [sum, carry] = self().full_adder(held[0], held[1], held[2]);
      held.assign(1, sum);
      value = carry;
    }
  }

  void finish(int32_t c) {
    for (size_t weight = 0; weight < pending_[c].size(); ++weight) {
      const std::vector<Bit> held = pending_[c][weight];
      if (held.size() == 2) {
        const auto [sum, carry] = self().half_adder(held[0], held[1]);
        program_.planes[c].push_back(self().plane(sum));
        add(c, weight + 1, carry);
      } else {
        // One bit: adders leave at least one behind in every weight they reach.
        program_.planes[c].push_back(self().plane(held[0]));
      }
    }
  }

  const LgnCircuit& net_;
  FusedProgram program_;
  std::vector<std::vector<std::vector<Bit>>> pending_;  // class, weight -> up to two bits
};

class Fuser3 : public Fuser<uint32_t, Fuser3> {
 public:
  using Fuser::Fuser;
  void gate(int64_t gate) { program_.operations.push_back(operation_of(net_, gate)); }
  void count(int32_t c, int64_t node) { add(c, 0, static_cast<uint32_t>(node)); }
  uint32_t plane(uint32_t value) { return value; }
  std::pair<uint32_t, uint32_t> full_adder(uint32_t x, uint32_t y, uint32_t z) {
    const uint32_t carry = emit(x, y, z, 3, kCarry3);
    return {emit(x, y, z, 3, kSum3), carry};
  }
  std::pair<uint32_t, uint32_t> half_adder(uint32_t x, uint32_t y) {
    const uint32_t carry = emit(x, x, y, 2, kCarry2);
    return {emit(x, x, y, 2, kSum2), carry};
  }

 private:
  uint32_t emit(uint32_t x, uint32_t y, uint32_t z, int operands, uint8_t table) {
    program_.operations.push_back({{x, y, z}, program_.values, static_cast<uint8_t>(operands), table});
    return program_.values++;
  }
};

// Values are held complemented where that saves a gate.
class Fuser2 : public Fuser<Held, Fuser2> {
 public:
  explicit Fuser2(const LgnCircuit& circuit) : Fuser(circuit), held_(static_cast<size_t>(program_.values)) {
    for (int64_t i = 0; i < net_.inputs; ++i) held_[i] = {static_cast<int32_t>(i), false};
  }
  void gate(int64_t gate) {
    const int32_t node = static_cast<int32_t>(net_.inputs + gate);
    held_[node] = combine(held_[net_.a[gate]], held_[net_.b[gate]], net_.tables[gate], node);
  }
  void count(int32_t c, int64_t node) {
    const Held bit = held_[node];
    if (bit.node >= 0)
      add(c, 0, bit);
    else
      program_.offset[c] += bit.complemented;
  }
  uint32_t plane(Held bit) {
    uint32_t value = static_cast<uint32_t>(bit.node);
    if (bit.node < 0) value = emit(0, 0, kSum2);  // a constant, where a class counts a value and its complement
    if (!bit.complemented) return value;
    if (!has_ones_) ones_ = emit(0, 0, kOnes);
    has_ones_ = true;
    return emit(value, ones_, kSum2);
  }
  std::pair<Held, Held> full_adder(Held x, Held y, Held z) {
    const Held differ = combine(x, y, 6), both = combine(x, y, 1), third = combine(differ, z, 1);
    return {combine(differ, z, 6), combine(both, third, 7)};
  }
  std::pair<Held, Held> half_adder(Held x, Held y) { return {combine(x, y, 6), combine(x, y, 1)}; }

 private:
  uint32_t emit(uint32_t x, uint32_t y, uint8_t table) {
    program_.operations.push_back({{x, x, y}, program_.values, 2, table});
    return program_.values++;
  }
  Held combine(Held x, Held y, uint8_t gate) { return combine(x, y, gate, static_cast<int32_t>(program_.values++)); }
  Held combine(Held x, Held y, uint8_t gate, int32_t out) {
    static constexpr uint8_t kTables[] = {0x88, 0x44, 0xEE, 0x66};  // by Kind
    gates_.clear();
    const Held result = absorb(x, y, gate, out, &gates_);
    for (const PlainGate& plain : gates_) {
      const uint32_t a = static_cast<uint32_t>(plain.a), b = static_cast<uint32_t>(plain.b);
      program_.operations.push_back({{a, a, b}, static_cast<uint32_t>(out), 2, kTables[plain.kind]});
    }
    return result;
  }

  std::vector<Held> held_;  // by node of the circuit
  std::vector<PlainGate> gates_;
  bool has_ones_ = false;
  uint32_t ones_ = 0;
};

}  // namespace

FusedProgram fuse_group_sums(const LgnCircuit& circuit) { return Fuser3(circuit).run(); }
FusedProgram fuse_group_sums2(const LgnCircuit& circuit) { return Fuser2(circuit).run(); }

}  // namespace lgn
