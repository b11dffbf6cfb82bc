// x86-64 machine code of a fused program.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "program.h"

namespace lgn {

// Executable memory, written first and made executable after: never both at once.
class CodeBuffer {
 public:
  CodeBuffer() = default;
  CodeBuffer(const CodeBuffer&) = delete;
  CodeBuffer& operator=(const CodeBuffer&) = delete;
  ~CodeBuffer();
  // False where the system refuses; the reason goes to `message`.
  bool make(const std::vector<uint8_t>& code, std::string* message);
  uint8_t* code() const { return code_; }

 private:
  void* mapped_ = nullptr;
  size_t size_ = 0;
  uint8_t* code_ = nullptr;
};

struct MachineCode {
  std::vector<uint8_t> code;
  std::vector<size_t> pieces;  // where they begin, each a void piece(uint8_t *slots), System V calling convention
  uint32_t slots = 0;
  int64_t loads = 0, stores = 0;
  std::vector<std::vector<uint32_t>> plane_slots;  // class -> slot of bit d of its count
};

// Inputs arrive in slots 0 … inputs-1; the planes leave in plane_slots. Code for AVX2 takes programs of two operands
// and handles the first half of each slot: each piece is called a second time, with slots + 32.
MachineCode emit_avx512(const FusedProgram& program, uint32_t inputs);
MachineCode emit_avx2(const FusedProgram& program, uint32_t inputs);

}  // namespace lgn
