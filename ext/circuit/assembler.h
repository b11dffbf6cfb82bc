// The few x86-64 instructions that engines are made of. Memory operands are slots of 64 bytes, [rdi + 64 (slot - 128)].
#pragma once
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "program.h"

namespace lgn {

class Assembler {
 public:
  std::vector<uint8_t> code;

  void prologue() { put({0x48, 0x81, 0xC7, 0x00, 0x20, 0x00, 0x00}); }  // add rdi, 64 * 128
  void epilogue() { put({0xC5, 0xF8, 0x77, 0xC3}); }                    // vzeroupper; ret

 protected:
  // Slot 128 lies at the base register: with EVEX the first 256 slots then have one-byte displacements.
  static constexpr int kBias = 128;

  void put(std::initializer_list<int> bytes) {
    for (const int byte : bytes) code.push_back(static_cast<uint8_t>(byte));
  }
  void direct(int reg, int rm) { put({0xC0 | (reg & 7) << 3 | (rm & 7)}); }
  void far_memory(int reg, uint32_t slot) {
    const uint32_t place = static_cast<uint32_t>((static_cast<int64_t>(slot) - kBias) * kSlotBytes);
    put({0x87 | (reg & 7) << 3});
    for (int shift = 0; shift < 32; shift += 8) code.push_back(static_cast<uint8_t>(place >> shift));
  }
};

// AVX-512: a slot is a register, and one instruction computes any table of three operands.
class Avx512 : public Assembler {
 public:
  static constexpr int kRegisters = 32;
  static constexpr uint32_t kPiece = ~0u;  // operations of a piece of code: all of them

  void load(int reg, uint32_t slot) {  // vmovdqa64 zmm, m512
    prefix(1, 1, reg, 0, 0);
    code.push_back(0x6F);
    memory(reg, slot);
  }
  void store(int reg, uint32_t slot) {  // vmovdqa64 m512, zmm
    prefix(1, 1, reg, 0, 0);
    code.push_back(0x7F);
    memory(reg, slot);
  }
  void move(int to, int from) {  // vmovdqa64 zmm, zmm
    prefix(1, 1, to, 0, from);
    code.push_back(0x6F);
    direct(to, from);
  }
  // vpternlogq: bit (4 first + 2 second + third) of the table, where `first` is also the result.
  void ternary(int first, int second, int third, uint8_t table) {
    prefix(3, 1, first, second, third);
    code.push_back(0x25);
    direct(first, third);
    code.push_back(table);
  }
  void ternary_memory(int first, int second, uint32_t slot, uint8_t table) {
    prefix(3, 1, first, second, 0);
    code.push_back(0x25);
    memory(first, slot);
    code.push_back(table);
  }
  // Two operands: the table ignores the first of three.
  static constexpr bool from_memory(uint8_t) { return true; }
  void binary(int to, int first, int second, uint8_t table) { ternary(to, first, second, table); }
  void binary_memory(int to, int first, uint32_t slot, uint8_t table) { ternary_memory(to, first, slot, table); }

 private:
  // Intel SDM vol. 2A, 2.7.1; register numbers are stored inverted, bit 4 of `rm` in X.
  void prefix(int map, int pp, int reg, int vvvv, int rm) {
    put({0x62, !(reg & 8) << 7 | !(rm & 16) << 6 | !(rm & 8) << 5 | !(reg & 16) << 4 | map});
    put({1 << 7 | (~vvvv & 15) << 3 | 1 << 2 | pp, 2 << 5 | !(vvvv & 16) << 3});  // 512 bits, no mask
  }
  void memory(int reg, uint32_t slot) {
    const int64_t place = static_cast<int64_t>(slot) - kBias;
    if (place < -128 || place >= 128) return far_memory(reg, slot);
    put({0x47 | (reg & 7) << 3, static_cast<uint8_t>(place)});
  }
};

// AVX2: half a slot is a register, so the code runs twice. Tables are AND, AND NOT (either way), OR, XOR and all ones,
// of twice the same operand.
class Avx2 : public Assembler {
 public:
  static constexpr int kRegisters = 16;
  // A piece stays in the caches of instructions for the second half: a fifth faster than all in one piece.
  static constexpr uint32_t kPiece = 1000;

  void load(int reg, uint32_t slot) {  // vmovdqa ymm, m256
    prefix(reg, 0, 0);
    code.push_back(0x6F);
    far_memory(reg, slot);
  }
  void store(int reg, uint32_t slot) {  // vmovdqa m256, ymm
    prefix(reg, 0, 0);
    code.push_back(0x7F);
    far_memory(reg, slot);
  }
  // Whether the second operand may lie in memory: vpandn complements the one that must not.
  static constexpr bool from_memory(uint8_t table) { return table != 0x44; }
  void binary(int to, int first, int second, uint8_t table) {
    if (table == 0x44) return binary(to, second, first, 0x22);
    prefix(to, first, second);
    code.push_back(opcode(table));
    direct(to, second);
  }
  void binary_memory(int to, int first, uint32_t slot, uint8_t table) {
    prefix(to, first, 0);
    code.push_back(opcode(table));
    far_memory(to, slot);
  }

 private:
  static uint8_t opcode(uint8_t table) {
    switch (table) {
      case 0x88:
        return 0xDB;  // vpand
      case 0x22:
        return 0xDF;  // vpandn: ~first & second
      case 0xEE:
        return 0xEB;  // vpor
      case 0xFF:
        return 0x76;  // vpcmpeqd
      default:
        return 0xEF;  // vpxor
    }
  }
  // Intel SDM vol. 2A, 2.3.5: 256 bits, prefix 66, map 0F; two bytes where rm is none of the upper registers.
  void prefix(int reg, int vvvv, int rm) {
    const int last = (~vvvv & 15) << 3 | 1 << 2 | 1;
    if (rm & 8)
      put({0xC4, !(reg & 8) << 7 | 1 << 6 | 1, last});
    else
      put({0xC5, !(reg & 8) << 7 | last});
  }
};

}  // namespace lgn
