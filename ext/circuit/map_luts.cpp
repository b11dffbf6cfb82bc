// Covers a circuit of two-input gates with gates of three inputs: cut enumeration with area flow, then rounds of exact
// local area recovery (Mishchenko, Chatterjee, Brayton, "Improvements to technology mapping for LUT-based FPGAs",
// 2007).
#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <vector>

#include "api.h"

namespace {

constexpr int kMaxCuts = 8;

struct Cut {
  int32_t leaves[3];
  int32_t size;
  float flow;
  uint8_t table;  // of the node over its leaves, bit 7 for 000; found while cuts are merged, as cones can be huge
  uint8_t from_a, from_b;  // cuts of the operands that it was merged from
};

constexpr uint8_t kOperand[3] = {0x0F, 0x33, 0x55};

// The table of a cut's node over the leaves of a cut that holds them all.
uint8_t expand(const Cut& cut, const Cut& wider) {
  int weight[3] = {};
  for (int i = 0; i < cut.size; ++i)
    for (int j = 0; j < wider.size; ++j)
      if (wider.leaves[j] == cut.leaves[i]) weight[i] = 4 >> j;
  uint8_t result = 0;
  for (int e = 0; e < 8; ++e) {
    int index = 0;
    for (int i = 0; i < cut.size; ++i)
      if (e & weight[i]) index |= 4 >> i;
    result = static_cast<uint8_t>(result << 1 | (cut.table >> (7 - index) & 1));
  }
  return result;
}

uint8_t apply_gate(uint8_t gate, uint8_t x, uint8_t y) {
  uint8_t result = 0;
  if (gate & 8) result |= static_cast<uint8_t>(~x & ~y);
  if (gate & 4) result |= static_cast<uint8_t>(~x & y);
  if (gate & 2) result |= static_cast<uint8_t>(x & ~y);
  if (gate & 1) result |= static_cast<uint8_t>(x & y);
  return result;
}

class Mapper {
 public:
  explicit Mapper(const LgnCircuit& circuit) : net_(circuit), first_(static_cast<int32_t>(circuit.inputs)) {
    const size_t nodes = static_cast<size_t>(circuit.inputs + circuit.gates);
    cuts_.resize(nodes);
    counts_.assign(nodes, 0);
    best_.assign(nodes, 0);
    references_.assign(nodes, 0);
  }

  void run(int rounds, LgnResult* result) {
    enumerate();
    for (int64_t i = 0; i < net_.outputs; ++i) reference_node(net_.output_nodes[i]);
    for (int round = 0; round < rounds; ++round)
      for (int64_t gate = 0; gate < net_.gates; ++gate) improve(first_ + static_cast<int32_t>(gate));
    write(result);
  }

 private:
  bool is_gate(int32_t node) const { return node >= first_; }
  const Cut& chosen(int32_t node) const { return cuts_[node][best_[node]]; }

  void enumerate() {
    const size_t nodes = cuts_.size();
    std::vector<float> readers(nodes, 0), flow(nodes, 0);
    for (int64_t i = 0; i < net_.gates; ++i) {
      readers[net_.a[i]] += 1;
      readers[net_.b[i]] += 1;
    }
    for (int64_t i = 0; i < net_.outputs; ++i) readers[net_.output_nodes[i]] += 1;
    for (int32_t i = 0; i < first_; ++i) {
      cuts_[i][0] = {{i, 0, 0}, 1, 0, kOperand[0], 0, 0};
      counts_[i] = 1;
    }
    std::vector<Cut> found;
    for (int64_t gate = 0; gate < net_.gates; ++gate) {
      const int32_t node = first_ + static_cast<int32_t>(gate), a = net_.a[gate], b = net_.b[gate];
      found.clear();
      for (int p = 0; p < counts_[a]; ++p)
        for (int q = 0; q < counts_[b]; ++q) {
          Cut cut;
          if (!merge(cuts_[a][p], cuts_[b][q], &cut)) continue;
          cut.from_a = static_cast<uint8_t>(p);
          cut.from_b = static_cast<uint8_t>(q);
          cut.flow = 1;
          for (int z = 0; z < cut.size; ++z) cut.flow += flow[cut.leaves[z]] / std::max(1.0f, readers[cut.leaves[z]]);
          found.push_back(cut);
        }
      std::stable_sort(found.begin(), found.end(), [](const Cut& x, const Cut& y) { return x.flow < y.flow; });
      int count = 0;
      for (const Cut& cut : found) {
        if (count == kMaxCuts) break;
        bool known = false;
        for (int i = 0; i < count && !known; ++i)
          known = cuts_[node][i].size == cut.size &&
                  !std::memcmp(cuts_[node][i].leaves, cut.leaves, sizeof(int32_t) * static_cast<size_t>(cut.size));
        if (known) continue;
        Cut& kept = cuts_[node][count++] = cut;
        kept.table =
            apply_gate(net_.tables[gate], expand(cuts_[a][cut.from_a], cut), expand(cuts_[b][cut.from_b], cut));
      }
      flow[node] = cuts_[node][0].flow;
      // The node itself comes last: readers may stop here, the node may not.
      cuts_[node][count++] = {{node, 0, 0}, 1, flow[node], kOperand[0], 0, 0};
      counts_[node] = static_cast<uint8_t>(count);
    }
  }

  static bool merge(const Cut& x, const Cut& y, Cut* cut) {
    int i = 0, j = 0, size = 0;
    while (i < x.size || j < y.size) {
      int32_t leaf;
      if (j == y.size || (i < x.size && x.leaves[i] < y.leaves[j])) {
        leaf = x.leaves[i++];
      } else {
        leaf = y.leaves[j++];
        if (i < x.size && x.leaves[i] == leaf) ++i;
      }
      if (size == 3) return false;
      cut->leaves[size++] = leaf;
    }
    cut->size = size;
    return true;
  }

  // Counts the gates that come alive with a reference (that die without it). A stack of our own: cones are deep.
  int reference_cut(const Cut& cut) { return walk(cut, true); }
  int dereference_cut(const Cut& cut) { return walk(cut, false); }

  int walk(const Cut& cut, bool adds) {
    int area = 1;
    stack_.clear();
    push_leaves(cut);
    while (!stack_.empty()) {
      const int32_t node = stack_.back();
      stack_.pop_back();
      if ((adds ? references_[node]++ : --references_[node]) != 0 || !is_gate(node)) continue;
      ++area;
      push_leaves(chosen(node));
    }
    return area;
  }

  void push_leaves(const Cut& cut) { stack_.insert(stack_.end(), cut.leaves, cut.leaves + cut.size); }

  void reference_node(int32_t node) {
    if (references_[node]++ == 0 && is_gate(node)) reference_cut(chosen(node));
  }

  void improve(int32_t node) {
    if (references_[node] == 0) return;
    dereference_cut(chosen(node));
    int best = 0, best_area = 1 << 30;
    for (int i = 0; i + 1 < counts_[node]; ++i) {
      const int area = reference_cut(cuts_[node][i]);
      dereference_cut(cuts_[node][i]);
      if (area < best_area) {
        best = i;
        best_area = area;
      }
    }
    best_[node] = static_cast<uint8_t>(best);
    reference_cut(chosen(node));
  }

  void write(LgnResult* result) {
    std::vector<int32_t> number(cuts_.size(), -1);
    for (int32_t i = 0; i < first_; ++i) number[i] = i;
    result->gates = 0;
    for (int64_t gate = 0; gate < net_.gates; ++gate) {
      const int32_t node = first_ + static_cast<int32_t>(gate);
      if (references_[node] == 0) continue;
      const Cut& cut = chosen(node);
      const int64_t i = result->gates++;
      result->tables[i] = cut.table;
      int32_t* const operands[3] = {result->a, result->b, result->c};
      for (int z = 0; z < 3; ++z) operands[z][i] = number[cut.leaves[z < cut.size ? z : 0]];
      number[node] = first_ + static_cast<int32_t>(i);
    }
    for (int64_t i = 0; i < net_.outputs; ++i) result->output_nodes[i] = number[net_.output_nodes[i]];
  }

  const LgnCircuit& net_;
  int32_t first_;
  std::vector<std::array<Cut, kMaxCuts + 1>> cuts_;
  std::vector<uint8_t> counts_, best_;
  std::vector<int32_t> references_;
  std::vector<int32_t> stack_;
};

}  // namespace

int lgn_map_luts(const LgnCircuit* circuit, int32_t rounds, LgnResult* result) try {
  Mapper(*circuit).run(rounds, result);
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}
