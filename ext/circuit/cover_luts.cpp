// Covers a circuit with lookup tables of up to six inputs: priority cuts by depth first, then area flow
// and exact local area under the depth that was found (Mishchenko, Cho, Chatterjee, Brayton, "Combinational and
// sequential mapping with priority cuts", 2007). `map_luts.cpp` rewrites a circuit in three-input gates, which engines
// run; this one finds tables, to count and to export them.
#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "api.h"

namespace {
namespace cover {

constexpr int kMaxInputs = 6;
constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
// Cuts that a node keeps: fewer of large circuits, which have fewer rounds, too, as an estimate is to take a second.
constexpr int kMaxCuts = 8, kSomeCuts = 5, kFewCuts = 4;
constexpr int64_t kLarge = 30'000, kHuge = 400'000;

struct Cut {
  int32_t leaves[kMaxInputs];
  int32_t size = 0, depth = 0;
  uint64_t signature = 0;
  float area = 0;
};

enum Round { kDepth, kFlow, kExact };

class Cover {
 public:
  Cover(const LgnCircuit& circuit, int32_t inputs)
      : net_(circuit), first_(static_cast<int32_t>(circuit.inputs)), most_(inputs) {
    const size_t nodes = static_cast<size_t>(circuit.inputs + circuit.gates);
    width_ = circuit.gates > kHuge ? kFewCuts : circuit.gates > kLarge ? kSomeCuts : kMaxCuts;
    operands_.resize(static_cast<size_t>(circuit.gates));
    fanout_.assign(nodes, 0);
    for (int64_t gate = 0; gate < circuit.gates; ++gate) {
      operands_[gate] = used(gate);
      for (int i = 0; i < operands_[gate].size; ++i) fanout_[operands_[gate].node[i]] += 1;
    }
    for (int64_t i = 0; i < circuit.outputs; ++i) fanout_[circuit.output_nodes[i]] += 1;
    cuts_.resize(nodes * (width_ + 1));
    counts_.assign(nodes, 0);
    best_.resize(nodes);
    flow_.assign(nodes, 0);
    references_.assign(nodes, 0);
    required_.assign(nodes, kNever);
    for (int32_t i = 0; i < first_; ++i) counts_[i] = 1, cut(i, 0) = unit(i);
  }

  void run() {
    const bool large = net_.gates > kLarge;
    for (Round round : large ? std::vector{kDepth, kFlow, kExact} : std::vector{kDepth, kFlow, kFlow, kExact, kExact}) {
      for (int64_t gate = 0; gate < net_.gates; ++gate) visit(first_ + static_cast<int32_t>(gate), round);
      if (round < kExact) reference_all();
      require(round == kDepth);
    }
  }

  void write(uint8_t* inputs, int32_t* levels, int32_t* leaves, uint64_t* tables) {
    value_.assign(best_.size(), 0);
    seen_.assign(best_.size(), -1);
    for (int64_t gate = 0; gate < net_.gates; ++gate) {
      const int32_t node = first_ + static_cast<int32_t>(gate);
      const Cut& own = best_[node];
      inputs[gate] = static_cast<uint8_t>(references_[node] > 0 ? own.size : 0);
      levels[gate] = own.depth;
      std::fill(leaves + gate * kMaxInputs, leaves + (gate + 1) * kMaxInputs, 0);
      std::copy(own.leaves, own.leaves + own.size, leaves + gate * kMaxInputs);
      tables[gate] = references_[node] > 0 ? table_of(node) : 0;
    }
  }

 private:
  struct Operands {
    int32_t node[3];
    int size;
  };

  // The operands that a gate's table depends on.
  Operands used(int64_t gate) const {
    const int arity = net_.c ? 3 : 2, entries = 1 << arity;
    const int32_t nodes[3] = {net_.a[gate], net_.b[gate], net_.c ? net_.c[gate] : 0};
    Operands result{{}, 0};
    for (int k = 0; k < arity; ++k) {
      bool depends = false;
      for (int e = 0; e < entries; ++e)
        depends |= (net_.tables[gate] >> e & 1) != (net_.tables[gate] >> (e ^ 1 << (arity - 1 - k)) & 1);
      if (depends) result.node[result.size++] = nodes[k];
    }
    return result;
  }

  Cut& cut(int32_t node, int i) { return cuts_[static_cast<size_t>(node) * (width_ + 1) + i]; }
  bool is_gate(int32_t node) const { return node >= first_; }

  Cut unit(int32_t node) const {
    Cut result;
    result.leaves[0] = node;
    result.size = 1;
    result.signature = uint64_t{1} << (node & 63);
    return result;
  }

  static bool merge(const Cut& x, const Cut& y, int most, Cut* result) {
    if (__builtin_popcountll(x.signature | y.signature) > most) return false;
    int i = 0, j = 0, size = 0;
    while (i < x.size || j < y.size) {
      if (size == most) return false;
      if (j == y.size || (i < x.size && x.leaves[i] < y.leaves[j])) {
        result->leaves[size++] = x.leaves[i++];
      } else {
        if (i < x.size && x.leaves[i] == y.leaves[j]) ++i;
        result->leaves[size++] = y.leaves[j++];
      }
    }
    result->size = size;
    result->signature = x.signature | y.signature;
    return true;
  }

  static bool contains(const Cut& wide, const Cut& narrow) {
    if (narrow.size > wide.size || (narrow.signature & ~wide.signature)) return false;
    return std::includes(wide.leaves, wide.leaves + wide.size, narrow.leaves, narrow.leaves + narrow.size);
  }

  void measure(Cut* x, Round round) {
    x->depth = 0;
    x->area = x->size ? 1.0f : 0.0f;
    for (int i = 0; i < x->size; ++i) {
      const int32_t leaf = x->leaves[i];
      if (is_gate(leaf)) x->depth = std::max(x->depth, best_[leaf].depth);
      x->area += flow_[leaf] / std::max(1.0f, fanout_[leaf]);
    }
    x->depth += x->size > 0;
    if (round == kExact) {
      x->area = static_cast<float>(reference(*x));
      dereference(*x);
    }
  }

  void visit(int32_t node, Round round) {
    const Operands& read = operands_[node - first_];
    const bool referenced = references_[node] > 0;
    if (round == kExact && referenced) dereference(best_[node]);
    const int32_t limit = round == kDepth ? 0 : required_[node];
    const auto better = [&](const Cut& x, const Cut& y) {
      if (round == kDepth) {
        if (x.depth != y.depth) return x.depth < y.depth;
      } else if ((x.depth <= limit) != (y.depth <= limit)) {
        return x.depth <= limit;
      }
      if (x.area != y.area) return x.area < y.area;
      return x.depth != y.depth ? x.depth < y.depth : x.size < y.size;
    };
    int count = 0;
    const auto keep = [&](Cut& found) {
      for (int i = 0; i < count; ++i)
        if (contains(found, cut(node, i))) return;
      measure(&found, round);
      int left = 0;
      for (int i = 0; i < count; ++i)
        if (!contains(cut(node, i), found)) cut(node, left++) = cut(node, i);
      count = std::min(left, width_ - 1);
      if (left == width_ && !better(found, cut(node, left - 1))) return void(count = left);
      int place = count;
      while (place > 0 && better(found, cut(node, place - 1))) cut(node, place) = cut(node, place - 1), --place;
      cut(node, place) = found;
      ++count;
    };
    if (round != kDepth) {
      Cut before = best_[node];
      keep(before);
    }
    Cut pair, found;
    const int many[3] = {counts_of(read, 0), counts_of(read, 1), counts_of(read, 2)};
    for (int p = 0; p < many[0]; ++p)
      for (int q = 0; q < many[1]; ++q) {
        pair = read.size > 0 ? cut(read.node[0], p) : Cut();
        if (read.size > 1 && !merge(pair, cut(read.node[1], q), most_, &pair_)) continue;
        if (read.size > 1) pair = pair_;
        for (int r = 0; r < many[2]; ++r) {
          found = pair;
          if (read.size > 2 && !merge(pair, cut(read.node[2], r), most_, &found)) continue;
          keep(found);
        }
      }
    best_[node] = cut(node, 0);
    flow_[node] = round == kExact ? flow_[node] : best_[node].area;
    // The node itself comes last: readers may stop here, the node may not.
    cut(node, count) = unit(node);
    counts_[node] = static_cast<uint8_t>(count + 1);
    if (round == kExact && referenced) reference(best_[node]);
  }

  int counts_of(const Operands& read, int place) const { return place < read.size ? counts_[read.node[place]] : 1; }

  void reference_all() {
    std::fill(references_.begin(), references_.end(), 0);
    for (int64_t i = 0; i < net_.outputs; ++i) {
      const int32_t node = net_.output_nodes[i];
      if (references_[node]++ == 0 && is_gate(node)) reference(best_[node]);
    }
    for (size_t node = 0; node < fanout_.size(); ++node)
      fanout_[node] = (2 * fanout_[node] + static_cast<float>(references_[node])) / 3;
  }

  // The latest level at which each table may come; the first round says how deep all of them may be.
  void require(bool first) {
    if (first) {
      depth_ = 0;
      for (int64_t i = 0; i < net_.outputs; ++i)
        if (is_gate(net_.output_nodes[i])) depth_ = std::max(depth_, best_[net_.output_nodes[i]].depth);
    }
    std::fill(required_.begin(), required_.end(), kNever);
    for (int64_t i = 0; i < net_.outputs; ++i) required_[net_.output_nodes[i]] = depth_;
    for (int32_t node = first_ + static_cast<int32_t>(net_.gates) - 1; node >= first_; --node) {
      if (references_[node] == 0) continue;
      for (int i = 0; i < best_[node].size; ++i) {
        int32_t& leaf = required_[best_[node].leaves[i]];
        leaf = std::min(leaf, required_[node] - 1);
      }
    }
  }

  // Counts the tables that come alive with a reference (that die without it). A stack of our own: cones are deep.
  int reference(const Cut& x) { return walk(x, true); }
  int dereference(const Cut& x) { return walk(x, false); }

  int walk(const Cut& x, bool adds) {
    int area = x.size > 0;
    stack_.assign(x.leaves, x.leaves + x.size);
    while (!stack_.empty()) {
      const int32_t node = stack_.back();
      stack_.pop_back();
      if ((adds ? references_[node]++ : --references_[node]) != 0 || !is_gate(node)) continue;
      area += best_[node].size > 0;
      stack_.insert(stack_.end(), best_[node].leaves, best_[node].leaves + best_[node].size);
    }
    return area;
  }

  // The function of a node over the leaves of its cut; entry i has leaf k as bit k of i.
  uint64_t table_of(int32_t node) {
    static constexpr uint64_t kLeaf[kMaxInputs] = {0xAAAAAAAAAAAAAAAA, 0xCCCCCCCCCCCCCCCC, 0xF0F0F0F0F0F0F0F0,
                                                   0xFF00FF00FF00FF00, 0xFFFF0000FFFF0000, 0xFFFFFFFF00000000};
    const Cut& own = best_[node];
    for (int i = 0; i < own.size; ++i) value_[own.leaves[i]] = kLeaf[i], seen_[own.leaves[i]] = node;
    std::vector<int32_t> cone;
    stack_.assign(1, node);
    seen_[node] = node;
    while (!stack_.empty()) {
      const int32_t next = stack_.back();
      stack_.pop_back();
      cone.push_back(next);
      const Operands& read = operands_[next - first_];
      for (int i = 0; i < read.size; ++i)
        if (seen_[read.node[i]] != node) seen_[read.node[i]] = node, stack_.push_back(read.node[i]);
    }
    std::sort(cone.begin(), cone.end());
    for (int32_t next : cone) value_[next] = evaluate(next - first_);
    return value_[node];
  }

  uint64_t evaluate(int64_t gate) const {
    const int arity = net_.c ? 3 : 2, entries = 1 << arity;
    const int32_t nodes[3] = {net_.a[gate], net_.b[gate], net_.c ? net_.c[gate] : 0};
    uint64_t result = 0;
    for (int e = 0; e < entries; ++e) {
      if (!(net_.tables[gate] >> (entries - 1 - e) & 1)) continue;
      uint64_t term = ~uint64_t{0};
      for (int k = 0; k < arity; ++k) term &= e >> (arity - 1 - k) & 1 ? value_[nodes[k]] : ~value_[nodes[k]];
      result |= term;
    }
    return result;
  }

  const LgnCircuit& net_;
  int32_t first_, most_, depth_ = 0;
  int width_;
  std::vector<Operands> operands_;
  std::vector<Cut> cuts_, best_;
  std::vector<uint8_t> counts_;
  std::vector<float> fanout_, flow_;
  std::vector<int32_t> references_, required_, stack_, seen_;
  std::vector<uint64_t> value_;
  Cut pair_;
};

}  // namespace cover
}  // namespace

int lgn_cover_luts(const LgnCircuit* circuit, int32_t most, uint8_t* inputs, int32_t* levels, int32_t* leaves,
                   uint64_t* tables) try {
  if (most < 3 || most > cover::kMaxInputs) return -2;
  cover::Cover found(*circuit, most);
  found.run();
  found.write(inputs, levels, leaves, tables);
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}
