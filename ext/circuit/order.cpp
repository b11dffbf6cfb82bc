#include "order.h"

#include <algorithm>
#include <new>

namespace lgn {
namespace {

class ChainOrder {
 public:
  explicit ChainOrder(const LgnCircuit& circuit) : net_(circuit), first_(static_cast<int32_t>(circuit.inputs)) {
    const size_t nodes = static_cast<size_t>(circuit.inputs + circuit.gates);
    missing_.assign(static_cast<size_t>(circuit.gates), 0);
    done_.assign(static_cast<size_t>(circuit.gates), 0);
    mark_needed();
    start_.assign(nodes + 1, 0);
    each_edge([&](int32_t operand, int64_t) { ++start_[operand + 1]; });
    for (size_t i = 0; i < nodes; ++i) start_[i + 1] += start_[i];
    readers_.resize(start_.back());
    cursor_.assign(start_.begin(), start_.end() - 1);
    each_edge([&](int32_t operand, int64_t gate) {
      readers_[cursor_[operand]++] = static_cast<int32_t>(gate);
      if (operand >= first_) ++missing_[gate];
    });
    cursor_.assign(start_.begin(), start_.end() - 1);
    order_.reserve(static_cast<size_t>(circuit.gates));
  }

  std::vector<int64_t> run() {
    for (int64_t i = 0; i < net_.outputs; ++i) {
      demand(net_.output_nodes[i] - first_);
      while (!hot_.empty()) {
        const int32_t node = hot_.back() + first_;
        // The cursor only moves on: a reader that is done stays done.
        int64_t& next = cursor_[node];
        while (next < start_[node + 1] && done_[readers_[next]]) ++next;
        if (next == start_[node + 1])
          hot_.pop_back();
        else
          demand(readers_[next]);
      }
    }
    return std::move(order_);
  }

 private:
  // Calls f(operand, gate) once for each distinct operand of each needed gate.
  template <class F>
  void each_edge(F f) const {
    for (int64_t gate = 0; gate < net_.gates; ++gate) {
      if (!needed_[gate]) continue;
      const int32_t a = net_.a[gate], b = net_.b[gate];
      f(a, gate);
      if (b != a) f(b, gate);
      if (net_.c && net_.c[gate] != a && net_.c[gate] != b) f(net_.c[gate], gate);
    }
  }

  void mark_needed() {
    needed_.assign(static_cast<size_t>(net_.gates), 0);
    for (int64_t i = 0; i < net_.outputs; ++i)
      if (net_.output_nodes[i] >= first_) needed_[net_.output_nodes[i] - first_] = 1;
    for (int64_t gate = net_.gates; gate-- > 0;) {
      if (!needed_[gate]) continue;
      for (const int32_t* operand : {net_.a, net_.b, net_.c})
        if (operand && operand[gate] >= first_) needed_[operand[gate] - first_] = 1;
    }
  }

  // Emits a gate after everything it depends on.
  void demand(int64_t root) {
    if (root < 0 || done_[root]) return;
    wanted_.assign(1, root);
    while (!wanted_.empty()) {
      const int64_t gate = wanted_.back();
      if (done_[gate]) {
        wanted_.pop_back();
        continue;
      }
      int64_t first_missing = -1;
      for (const int32_t* operand : {net_.a, net_.b, net_.c})
        if (first_missing < 0 && operand && operand[gate] >= first_ && !done_[operand[gate] - first_])
          first_missing = operand[gate] - first_;
      if (first_missing >= 0) {
        wanted_.push_back(first_missing);
      } else {
        wanted_.pop_back();
        emit(gate);
      }
    }
  }

  // Emits a gate, and depth first all readers that it completes.
  void emit(int64_t root) {
    struct Frame {
      int64_t gate, next;
    };
    std::vector<Frame> stack;
    const auto enter = [&](int64_t gate) {
      done_[gate] = 1;
      order_.push_back(gate);
      hot_.push_back(static_cast<int32_t>(gate));
      stack.push_back({gate, start_[first_ + gate]});
    };
    enter(root);
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.next == start_[first_ + top.gate + 1]) {
        stack.pop_back();
        continue;
      }
      const int32_t reader = readers_[top.next++];
      if (--missing_[reader] == 0 && !done_[reader]) enter(reader);
    }
  }

  const LgnCircuit& net_;
  int32_t first_;
  std::vector<uint8_t> needed_, done_;
  std::vector<int32_t> missing_;         // operands that have no value yet, by gate
  std::vector<int64_t> start_, cursor_;  // readers of each node
  std::vector<int32_t> readers_;
  std::vector<int32_t> hot_;  // gates whose readers come next, latest last
  std::vector<int64_t> wanted_, order_;
};

}  // namespace

std::vector<int64_t> chain_order(const LgnCircuit& circuit) { return ChainOrder(circuit).run(); }

}  // namespace lgn

int lgn_chain_order(const LgnCircuit* circuit, int64_t* order) try {
  const std::vector<int64_t> found = lgn::chain_order(*circuit);
  if (static_cast<int64_t>(found.size()) != circuit->gates) return -2;  // there are dead gates
  std::copy(found.begin(), found.end(), order);
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}
