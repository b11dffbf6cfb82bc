// Compiled once for each instruction set, which LGN_SET names. A gate of a kernel is evaluated at a chunk of
// places before the next one's turn comes: which gate it is, and where its operands lie, is decided once a chunk.
#include <algorithm>
#include <array>
#include <utility>

#include "loops.h"
#include "vector.h"

namespace lgn {
namespace {

// Gate `kTable`, whose bits are the outputs for 00, 01, 10, 11 from the most significant on.
template <int kTable>
inline Vec gate(Vec a, Vec b) {
  switch (kTable) {
    case 0:
      return Vec{};
    case 1:
      return a & b;
    case 2:
      return a & ~b;
    case 3:
      return a;
    case 4:
      return ~a & b;
    case 5:
      return b;
    case 6:
      return a ^ b;
    case 7:
      return a | b;
    case 8:
      return ~(a | b);
    case 9:
      return ~(a ^ b);
    case 10:
      return ~b;
    case 11:
      return a | ~b;
    case 12:
      return ~a;
    case 13:
      return ~a | b;
    case 14:
      return ~(a & b);
    default:
      return ~Vec{};
  }
}

inline const Vec* at(const uint8_t* slots, int64_t slot) {
  return reinterpret_cast<const Vec*>(slots + slot * kSlotBytes);
}
inline Vec* at(uint8_t* slots, int64_t slot) { return reinterpret_cast<Vec*>(slots + slot * kSlotBytes); }

// An operand or result at places i = 0, 1, …: a leaf lies at `slots` + bases[i], a register at `slots` + i.
template <bool kLeaf>
inline int64_t place(const int32_t* bases, int64_t i) {
  return kLeaf ? bases[i] : i;
}

// A gate at `count` places, into a register.
template <int kTable, bool kLeafA, bool kLeafB>
void evaluate(const uint8_t* a, const uint8_t* b, uint8_t* out, const int32_t* reads, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const Vec* const x = at(a, place<kLeafA>(reads, i));
    const Vec* const y = at(b, place<kLeafB>(reads, i));
    Vec* const z = at(out, i);
    for (int v = 0; v < kVecs; ++v) z[v] = gate<kTable>(x[v], y[v]);
  }
}

// A gate at `count` windows of places, their OR into slots.
template <int kTable, bool kLeafA, bool kLeafB>
void evaluate_windows(const uint8_t* a, const uint8_t* b, uint8_t* out, const int32_t* reads, const int32_t* writes,
                      int64_t count, int64_t window) {
  for (int64_t i = 0; i < count; ++i) {
    Vec sum[kVecs] = {};
    for (int64_t j = i; j < window * count; j += count) {
      const Vec* const x = at(a, place<kLeafA>(reads, j));
      const Vec* const y = at(b, place<kLeafB>(reads, j));
      for (int v = 0; v < kVecs; ++v) sum[v] |= gate<kTable>(x[v], y[v]);
    }
    Vec* const z = at(out, writes[i]);
    for (int v = 0; v < kVecs; ++v) z[v] = sum[v];
  }
}

using Evaluate = void (*)(const uint8_t*, const uint8_t*, uint8_t*, const int32_t*, int64_t);
using EvaluateWindows = void (*)(const uint8_t*, const uint8_t*, uint8_t*, const int32_t*, const int32_t*, int64_t,
                                 int64_t);

// Index: 4 · table + 2 if A is a leaf + 1 if B is one.
template <size_t... kIndex>
constexpr std::array<Evaluate, 64> all_gates(std::index_sequence<kIndex...>) {
  return {{evaluate<kIndex / 4, (kIndex & 2) != 0, (kIndex & 1) != 0>...}};
}
template <size_t... kIndex>
constexpr std::array<EvaluateWindows, 64> all_window_gates(std::index_sequence<kIndex...>) {
  return {{evaluate_windows<kIndex / 4, (kIndex & 2) != 0, (kIndex & 1) != 0>...}};
}
constexpr auto kGates = all_gates(std::make_index_sequence<64>());
constexpr auto kWindowGates = all_window_gates(std::make_index_sequence<64>());

void run_kernel(const LoopStep& step, uint8_t* slots, uint8_t* registers) {
  constexpr int kA = 3;  // the gate that hands its first operand on
  const int64_t register_bytes = int64_t(step.chunk) * step.window * kSlotBytes;
  const auto operand = [&](int32_t value) {
    return value < 0 ? registers + ~value * register_bytes : slots + int64_t(value) * kSlotBytes;
  };
  const auto mode = [](int table, int32_t a, int32_t b) { return 4 * table + 2 * (a >= 0) + (b >= 0); };
  for (size_t part = 0; part + 1 < step.part_gates.size(); ++part) {
    const LoopGate* const first = step.gates.data() + step.part_gates[part];
    const LoopGate* last = step.gates.data() + step.part_gates[part + 1];
    const LoopResult* const results = step.results.data() + step.part_results[part];
    const int64_t num_results = step.part_results[part + 1] - step.part_results[part];
    // The usual part is a tree: its last gate, the root, goes to the slots at once.
    const bool tree = num_results == 1 && last > first && results->value == ~last[-1].out;
    if (tree) --last;
    for (int64_t start = 0; start < step.places; start += step.chunk) {
      const int64_t count = std::min<int64_t>(step.chunk, step.places - start);
      const int32_t* const reads = step.reads.data() + start * step.window;
      const int32_t* const writes = step.writes.data() + start;
      const auto store = [&](int table, int32_t a, int32_t b, int32_t slot) {
        kWindowGates[mode(table, a, b)](operand(a), operand(b), slots + int64_t(slot) * kSlotBytes, reads, writes,
                                        count, step.window);
      };
      for (const LoopGate* g = first; g < last; ++g)
        kGates[mode(g->table, g->a, g->b)](operand(g->a), operand(g->b), registers + g->out * register_bytes, reads,
                                           count * step.window);
      if (tree)
        store(last->table, last->a, last->b, results->slot);
      else
        for (int64_t i = 0; i < num_results; ++i) store(kA, results[i].value, results[i].value, results[i].slot);
    }
  }
}

template <int kTable>
void run_equal_gates(const int32_t* gates, int64_t count, uint8_t* slots) {
  for (int64_t i = 0; i < count; ++i, gates += 3) {
    const Vec* const x = at(slots, gates[1]);
    const Vec* const y = at(slots, gates[2]);
    Vec* const z = at(slots, gates[0]);
    for (int v = 0; v < kVecs; ++v) z[v] = gate<kTable>(x[v], y[v]);
  }
}

using RunGates = void (*)(const int32_t*, int64_t, uint8_t*);
template <size_t... kTable>
constexpr std::array<RunGates, 16> all_runs(std::index_sequence<kTable...>) {
  return {{run_equal_gates<kTable>...}};
}
constexpr auto kRuns = all_runs(std::make_index_sequence<16>());

void run(const LoopStep& step, uint8_t* slots, uint8_t* registers) {
  if (step.runs.empty()) return run_kernel(step, slots, registers);
  const int32_t* gates = step.gate_slots.data();
  for (const LoopRun& equal : step.runs) {
    kRuns[equal.table](gates, equal.count, slots);
    gates += 3 * int64_t(equal.count);
  }
}

}  // namespace

extern const LoopKernels LGN_OF_SET(LoopKernels);
const LoopKernels LGN_OF_SET(LoopKernels) = {run};

}  // namespace lgn
