// What engines execute: operations on slots of 64 bytes, the values of 512 samples.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "api.h"

namespace lgn {

constexpr int kBlock = 512;     // samples of a slot
constexpr int kSlotBytes = 64;  // one 512-bit register, two 256-bit or four 128-bit ones
constexpr int kMaxPlanes = 32;

// Values by number: 0 … inputs-1 are the inputs, the others come from operations.
struct Operation {
  uint32_t in[3];  // with two operands in[0] is not read
  uint32_t out;
  uint8_t operands;  // 2 or 3
  uint8_t table;     // bit (4 in0 + 2 in1 + in2) is the result: the immediate of vpternlog
};

// Operations in chain order together with the adders that count the ones of each class.
struct FusedProgram {
  uint32_t values = 0;
  std::vector<Operation> operations;
  std::vector<std::vector<uint32_t>> planes;  // class -> value that holds bit d of its count
  std::vector<int64_t> offset;                // to be added to the count of each class
};

// With three operands, where one instruction computes any table.
FusedProgram fuse_group_sums(const LgnCircuit& circuit);
// With two operands: AND, AND NOT, OR, XOR, and all ones, of twice the same operand.
FusedProgram fuse_group_sums2(const LgnCircuit& circuit);

// Gates whose complements are absorbed by their readers: what is stored is 0 where both operands are 0, so that four
// kinds are left.
enum Kind : int32_t { kAnd, kAndNot, kOr, kXor };
struct PlainGate {
  int32_t a, b, out;
  Kind kind;
};
// What a node is: a stored node or constant 0 (node -1), perhaps complemented.
struct Held {
  int32_t node;
  bool complemented;
};
// The gate `table` (bit 3 for 00 … bit 0 for 11) of x and y; where it takes a gate, that is appended and stores `out`.
Held absorb(Held x, Held y, uint8_t table, int32_t out, std::vector<PlainGate>* gates);

// Plain gates grouped by kind within each level: the interpreter's program.
struct GroupedProgram {
  struct Group {
    Kind kind;
    uint32_t begin, end;  // records
  };
  // Sum over a class: ones in `plain` slots and zeros in `complemented` slots.
  struct ClassSum {
    std::vector<uint32_t> plain, complemented;
  };
  uint32_t slots = 0;
  std::vector<Group> groups;
  std::vector<uint64_t> narrow;  // a | b << 16 | out << 32, if all slots fit 16 bits
  std::vector<uint32_t> wide;    // a, b, out otherwise
  std::vector<ClassSum> sums;
  std::vector<uint32_t> output_slot;  // by output, in the circuit's order
  std::vector<uint8_t> output_complemented;
  std::vector<uint8_t> output_constant;  // 0 none, 1 constant 0, 2 constant 1
};

GroupedProgram group_gates(const LgnCircuit& circuit);

}  // namespace lgn
