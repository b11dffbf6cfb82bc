// One sweep over the gates that folds constants, absorbs buffers and inverters into their readers, and merges equal
// gates (structural hashing). Inside, a circuit is a graph of AND and XOR nodes whose edges may be complemented.
#include <algorithm>
#include <new>
#include <unordered_map>
#include <vector>

#include "api.h"

namespace {

using Literal = uint32_t;  // node << 1 | complemented; node 0 is the constant 0
constexpr Literal kFalse = 0, kTrue = 1;

Literal negate(Literal x) { return x ^ 1; }
uint32_t node_of(Literal x) { return x >> 1; }

class Graph {
 public:
  enum Kind : uint8_t { kLeaf, kAnd, kXor, kBuffer };

  Graph(int64_t inputs, int64_t gates, int32_t flags) : flags_(flags) {
    const size_t nodes = static_cast<size_t>(inputs) + 1;
    left.reserve(nodes + gates);
    right.reserve(nodes + gates);
    kind.reserve(nodes + gates);
    left.assign(nodes, 0);
    right.assign(nodes, 0);
    kind.assign(nodes, kLeaf);
    if (flags & kHashStructure) {
      size_t capacity = 16;
      while (capacity < 2 * static_cast<size_t>(gates)) capacity *= 2;
      table_.assign(capacity, 0);
    }
  }

  // Adds a gate by its truth table; every gate has a node of its own unless inverters are absorbed.
  Literal gate(uint8_t table, Literal a, Literal b) {
    const size_t before = kind.size();
    const Literal result = rewrite(table, a, b);
    const bool reused = node_of(result) < before;
    if (reused && node_of(result) != 0 && !(flags_ & kAbsorbInverters)) return append(kBuffer, result, result);
    return result;
  }

  std::vector<Literal> left, right;
  std::vector<uint8_t> kind;

 private:
  Literal rewrite(uint8_t table, Literal a, Literal b) {
    switch (table) {
      case 0:
        return kFalse;
      case 1:
        return conjunction(a, b);
      case 2:
        return conjunction(a, negate(b));
      case 3:
        return a;
      case 4:
        return conjunction(negate(a), b);
      case 5:
        return b;
      case 6:
        return exclusive(a, b);
      case 7:
        return negate(conjunction(negate(a), negate(b)));
      default:
        return negate(rewrite(table ^ 15, a, b));
    }
  }

  Literal conjunction(Literal a, Literal b) {
    // Ends: each turn either returns or replaces one operand by a fan-in of the other's node, which is a lower node.
    for (;;) {
      if (a > b) std::swap(a, b);
      if (a == kFalse || a == negate(b)) return kFalse;
      if (a == kTrue || a == b) return b;
      if (!(flags_ & kHashStructure)) return append(kAnd, a, b);
      Literal simpler;
      if (look_inside(a, b, &simpler) || look_inside(b, a, &simpler)) return simpler;
      if (!(substitute(&a, b) || substitute(&b, a))) return append(kAnd, a, b);
    }
  }

  // a AND b where b is an AND of u, v: contained, contradicting and absorbed operands.
  bool look_inside(Literal a, Literal b, Literal* result) const {
    const uint32_t n = node_of(b);
    if (kind[n] != kAnd) return false;
    const Literal u = left[n], v = right[n];
    const bool contradicts = u == negate(a) || v == negate(a);
    if (b & 1) {
      if (contradicts) return *result = a, true;
      return false;
    }
    if (u == a || v == a) return *result = b, true;
    if (contradicts) return *result = kFalse, true;
    return false;
  }

  // a AND NOT(a AND v) is a AND NOT v.
  bool substitute(Literal* b, Literal a) const {
    const uint32_t n = node_of(*b);
    if (kind[n] != kAnd || !(*b & 1)) return false;
    if (left[n] == a) return *b = negate(right[n]), true;
    if (right[n] == a) return *b = negate(left[n]), true;
    return false;
  }

  Literal exclusive(Literal a, Literal b) {
    const Literal complemented = (a ^ b) & 1;
    a &= ~1u;
    b &= ~1u;
    if (a > b) std::swap(a, b);
    if (a == kFalse) return b | complemented;
    if (a == b) return complemented;
    if (flags_ & kHashStructure)
      for (const auto& [outer, inner] : {std::pair{a, b}, std::pair{b, a}}) {
        const uint32_t n = node_of(inner);
        if (kind[n] != kXor) continue;
        if (left[n] == outer) return right[n] | complemented;
        if (right[n] == outer) return left[n] | complemented;
      }
    return append(kXor, a, b) ^ complemented;
  }

  Literal append(Kind which, Literal a, Literal b) {
    size_t place = 0;
    if (flags_ & kHashStructure) {
      const uint64_t key = (uint64_t(a) << 32 | b) * 0x9E3779B97F4A7C15ull + which * 0xC2B2AE3D27D4EB4Full;
      const size_t mask = table_.size() - 1;
      for (place = (key ^ key >> 29) & mask; table_[place]; place = (place + 1) & mask) {
        const uint32_t n = table_[place];
        if (left[n] == a && right[n] == b && kind[n] == which) return n << 1;
      }
    }
    const uint32_t n = static_cast<uint32_t>(kind.size());
    left.push_back(a);
    right.push_back(b);
    kind.push_back(which);
    if (flags_ & kHashStructure) table_[place] = n;
    return n << 1;
  }

  int32_t flags_;
  std::vector<uint32_t> table_;  // open addressing; 0 is empty
};

// Writes a graph as gates. Complemented edges vanish in the readers' tables; a node that only outputs read, and only
// complemented, is stored complemented; one that outputs read in both polarities gets an inverter.
class Writer {
 public:
  Writer(const Graph& graph, int64_t inputs, LgnResult* result)
      : graph_(graph), inputs_(static_cast<uint32_t>(inputs)), result_(result) {}

  void write(const std::vector<Literal>& outputs) {
    const uint32_t nodes = static_cast<uint32_t>(graph_.kind.size()), first = inputs_ + 1;
    std::vector<uint8_t> polarities(nodes, 0);
    for (Literal x : outputs) polarities[node_of(x)] |= 1 << (x & 1);
    flipped_.assign(nodes, 0);
    for (uint32_t n = first; n < nodes; ++n) flipped_[n] = polarities[n] == 2;
    result_->gates = 0;
    for (uint32_t n = first; n < nodes; ++n) {
      const Literal x = fold(graph_.left[n]), y = fold(graph_.right[n]);
      add(table(graph_.kind[n], x & 1, y & 1, flipped_[n]), node_of(x) - 1, node_of(y) - 1);
    }
    std::unordered_map<Literal, int32_t> extra;  // constants and inverters that outputs need
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Literal x = fold(outputs[i]);
      if (x > 1 && !(x & 1)) {
        result_->output_nodes[i] = static_cast<int32_t>(node_of(x) - 1);
        continue;
      }
      auto [entry, fresh] = extra.try_emplace(x, 0);
      if (fresh) entry->second = x <= 1 ? add(x ? 15 : 0, 0, 0) : add(12, node_of(x) - 1, node_of(x) - 1);
      result_->output_nodes[i] = entry->second;
    }
  }

 private:
  Literal fold(Literal x) const { return x ^ flipped_[node_of(x)]; }

  static uint8_t table(uint8_t kind, bool not_x, bool not_y, bool not_result) {
    uint8_t value = 0;
    for (int x = 0; x < 2; ++x)
      for (int y = 0; y < 2; ++y) {
        const int p = x ^ not_x, q = y ^ not_y;
        const int bit = kind == Graph::kAnd ? p & q : kind == Graph::kXor ? p ^ q : p;
        value = static_cast<uint8_t>(value << 1 | (bit ^ not_result));
      }
    return value;
  }

  int32_t add(uint8_t table, uint32_t a, uint32_t b) {
    const int64_t i = result_->gates++;
    result_->tables[i] = table;
    result_->a[i] = static_cast<int32_t>(a);
    result_->b[i] = static_cast<int32_t>(b);
    return static_cast<int32_t>(inputs_ + i);
  }

  const Graph& graph_;
  uint32_t inputs_;
  LgnResult* result_;
  std::vector<uint8_t> flipped_;
};

}  // namespace

// A gate makes at most one node; each output may need an inverter or a constant.
int64_t lgn_pass_capacity(const LgnCircuit* circuit) { return circuit->gates + circuit->outputs + 2; }

int lgn_rewrite(const LgnCircuit* circuit, int32_t flags, LgnResult* result) try {
  Graph graph(circuit->inputs, circuit->gates, flags);
  std::vector<Literal> value(static_cast<size_t>(circuit->inputs + circuit->gates));
  for (int64_t i = 0; i < circuit->inputs; ++i) value[i] = static_cast<Literal>(i + 1) << 1;
  for (int64_t i = 0; i < circuit->gates; ++i)
    value[circuit->inputs + i] = graph.gate(circuit->tables[i], value[circuit->a[i]], value[circuit->b[i]]);
  std::vector<Literal> outputs(static_cast<size_t>(circuit->outputs));
  for (int64_t i = 0; i < circuit->outputs; ++i) outputs[i] = value[circuit->output_nodes[i]];
  Writer(graph, circuit->inputs, result).write(outputs);
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}
