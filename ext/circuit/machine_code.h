// x86-64 AVX-512 machine code of a fused program.
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
  void* entry() const { return memory_; }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0;
};

struct MachineCode {
  std::vector<uint8_t> code;  // void code(uint8_t *slots), System V calling convention
  uint32_t slots = 0;
  int64_t loads = 0, stores = 0;
  std::vector<std::vector<uint32_t>> plane_slots;  // class -> slot of bit d of its count
};

// Inputs arrive in slots 0 … inputs-1; the planes leave in plane_slots.
MachineCode emit_machine_code(const FusedProgram& program, uint32_t inputs);

}  // namespace lgn
