#include "machine_code.h"

#include <algorithm>
#include <cstring>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>

#include <cerrno>
#endif

namespace lgn {
namespace {

constexpr int kRegisters = 32;
constexpr uint32_t kNever = ~0u;
// Slot 128 lies at the base register: the first 256 slots then have one-byte displacements.
constexpr int kBias = 128;

// EVEX encodings of the four instructions that are needed. Memory operands are [rdi + 64 (slot - 128)].
class Assembler {
 public:
  std::vector<uint8_t> code;

  void prologue() {  // add rdi, 64 * 128
    const uint8_t text[] = {0x48, 0x81, 0xC7, 0x00, 0x20, 0x00, 0x00};
    code.insert(code.end(), text, text + sizeof text);
  }
  void epilogue() {  // vzeroupper; ret
    const uint8_t text[] = {0xC5, 0xF8, 0x77, 0xC3};
    code.insert(code.end(), text, text + sizeof text);
  }
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

 private:
  // Intel SDM vol. 2A, 2.7.1; register numbers are stored inverted, bit 4 of `rm` in X.
  void prefix(int map, int pp, int reg, int vvvv, int rm) {
    code.push_back(0x62);
    code.push_back(static_cast<uint8_t>(!(reg & 8) << 7 | !(rm & 16) << 6 | !(rm & 8) << 5 | !(reg & 16) << 4 | map));
    code.push_back(static_cast<uint8_t>(1 << 7 | (~vvvv & 15) << 3 | 1 << 2 | pp));
    code.push_back(static_cast<uint8_t>(2 << 5 | !(vvvv & 16) << 3));  // 512 bits, no mask
  }
  void direct(int reg, int rm) { code.push_back(static_cast<uint8_t>(0xC0 | (reg & 7) << 3 | (rm & 7))); }
  void memory(int reg, uint32_t slot) {
    const int64_t place = static_cast<int64_t>(slot) - kBias;
    if (place >= -128 && place < 128) {
      code.push_back(static_cast<uint8_t>(0x47 | (reg & 7) << 3));
      code.push_back(static_cast<uint8_t>(place));
      return;
    }
    code.push_back(static_cast<uint8_t>(0x87 | (reg & 7) << 3));
    const int32_t displacement = static_cast<int32_t>(place * kSlotBytes);
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&displacement);
    code.insert(code.end(), bytes, bytes + 4);
  }
};

// Table of the same function after its operands were put into another order: new operand i is old operand from[i].
uint8_t permute(uint8_t table, const int (&from)[3]) {
  uint8_t result = 0;
  for (int e = 0; e < 8; ++e) {
    int old = 0;
    for (int i = 0; i < 3; ++i)
      if (e >> (2 - i) & 1) old |= 4 >> from[i];
    result |= static_cast<uint8_t>((table >> old & 1) << e);
  }
  return result;
}

// Registers by farthest next use (Belady), slots by liveness.
class Emitter {
 public:
  Emitter(const FusedProgram& program, uint32_t inputs) : program_(program) {
    const uint32_t values = program.values;
    start_.assign(values + 1, 0);
    for (const Operation& op : program.operations)
      for (int i = 3 - op.operands; i < 3; ++i) ++start_[op.in[i] + 1];
    for (uint32_t v = 0; v < values; ++v) start_[v + 1] += start_[v];
    uses_.resize(start_[values]);
    cursor_.assign(start_.begin(), start_.end() - 1);
    for (uint32_t at = 0; at < program.operations.size(); ++at) {
      const Operation& op = program.operations[at];
      for (int i = 3 - op.operands; i < 3; ++i) uses_[cursor_[op.in[i]]++] = at;
    }
    cursor_.assign(start_.begin(), start_.end() - 1);
    kept_.assign(values, 0);
    for (const auto& planes : program.planes)
      for (uint32_t v : planes) kept_[v] = 1;
    slot_.assign(values, -1);
    register_.assign(values, -1);
    for (uint32_t v = 0; v < inputs; ++v) slot_[v] = static_cast<int64_t>(v);
    result_.slots = inputs;
    std::fill(std::begin(holds_), std::end(holds_), -1);
  }

  MachineCode run() {
    assembler_.code.reserve(program_.operations.size() * 16 + 64);
    assembler_.prologue();
    for (at_ = 0; at_ < program_.operations.size(); ++at_) {
      const Operation& op = program_.operations[at_];
      if (op.operands == 2)
        two_operands(op);
      else
        three_operands(op);
    }
    for (const auto& planes : program_.planes) {
      std::vector<uint32_t> places;
      for (uint32_t v : planes) {
        if (slot_[v] < 0) spill(v);
        places.push_back(static_cast<uint32_t>(slot_[v]));
      }
      result_.plane_slots.push_back(places);
    }
    assembler_.epilogue();
    result_.code = std::move(assembler_.code);
    return std::move(result_);
  }

 private:
  // The operation after this one that reads a value next.
  uint32_t next_use(uint32_t v) {
    while (cursor_[v] < start_[v + 1] && uses_[cursor_[v]] <= at_) ++cursor_[v];
    if (cursor_[v] < start_[v + 1]) return uses_[cursor_[v]];
    return kept_[v] ? kNever - 1 : kNever;
  }
  bool dies(uint32_t v) { return next_use(v) == kNever; }
  bool in_register(uint32_t v) const { return register_[v] >= 0; }

  void spill(uint32_t v) {
    if (free_slots_.empty()) {
      slot_[v] = result_.slots++;
    } else {
      slot_[v] = free_slots_.back();
      free_slots_.pop_back();
    }
    assembler_.store(register_[v], static_cast<uint32_t>(slot_[v]));
    ++result_.stores;
  }

  int take_register() {
    int victim = -1;
    uint32_t farthest = 0;
    for (int r = 0; r < kRegisters; ++r) {
      if (locked_ >> r & 1) continue;
      if (holds_[r] < 0) return r;
      const uint32_t next = next_use(static_cast<uint32_t>(holds_[r]));
      if (victim < 0 || next > farthest) {
        victim = r;
        farthest = next;
      }
    }
    const uint32_t v = static_cast<uint32_t>(holds_[victim]);
    if (slot_[v] < 0 && farthest != kNever) spill(v);
    register_[v] = -1;
    holds_[victim] = -1;
    return victim;
  }

  void hold(int reg, uint32_t v) {
    holds_[reg] = v;
    register_[v] = static_cast<int8_t>(reg);
  }

  void load(uint32_t v) {
    const int reg = take_register();
    assembler_.load(reg, static_cast<uint32_t>(slot_[v]));
    ++result_.loads;
    hold(reg, v);
    locked_ |= 1u << reg;
  }

  void release_dead(const Operation& op) {
    for (int i = 3 - op.operands; i < 3; ++i) {
      const uint32_t v = op.in[i];
      if (!dies(v)) continue;
      if (register_[v] >= 0) holds_[register_[v]] = -1;
      register_[v] = -1;
      if (slot_[v] >= 0) free_slots_.push_back(static_cast<uint32_t>(slot_[v]));
      slot_[v] = -1;
    }
  }

  void lock_operands(const Operation& op) {
    locked_ = 0;
    for (int i = 3 - op.operands; i < 3; ++i)
      if (in_register(op.in[i])) locked_ |= 1u << register_[op.in[i]];
  }

  void two_operands(const Operation& op) {
    uint32_t a = op.in[1], b = op.in[2];
    uint8_t table = op.table;
    lock_operands(op);
    if (!in_register(a) && in_register(b)) {
      std::swap(a, b);
      table = permute(table, {0, 2, 1});
    }
    if (!in_register(a)) load(a);
    // A value that is read again soon is worth a register, another one is read from memory.
    if (!in_register(b) && next_use(b) < kNever - 1 && next_use(b) < at_ + kSoon) load(b);
    const int ra = register_[a], rb = register_[b];
    int to = dies(a) ? ra : rb >= 0 && dies(b) ? rb : -1;
    if (to < 0) to = take_register();
    // The first operand of the instruction is ignored by the table.
    if (rb >= 0)
      assembler_.ternary(to, ra, rb, table);
    else
      assembler_.ternary_memory(to, ra, static_cast<uint32_t>(slot_[b]), table);
    release_dead(op);
    hold(to, op.out);
  }

  void three_operands(const Operation& op) {
    const auto value = [&](int i) { return op.in[i]; };
    lock_operands(op);
    // The result overwrites an operand: one that dies, else a fresh copy from memory, else a copied register.
    int overwritten = -1, from_memory = -1;
    for (int i = 0; i < 3 && overwritten < 0; ++i)
      if (in_register(value(i)) && dies(value(i))) overwritten = i;
    uint32_t farthest = 0;
    for (int i = 0; i < 3; ++i) {
      if (i == overwritten || in_register(value(i))) continue;
      const uint32_t next = next_use(value(i));
      if (from_memory < 0 || next > farthest) {
        from_memory = i;
        farthest = next;
      }
    }
    for (int i = 0; i < 3 && overwritten < 0; ++i)
      if (i != from_memory && !in_register(value(i))) overwritten = i;
    int to;
    if (overwritten >= 0 && in_register(value(overwritten))) {
      to = register_[value(overwritten)];
    } else {
      to = take_register();
      if (overwritten >= 0) {
        assembler_.load(to, static_cast<uint32_t>(slot_[value(overwritten)]));
        ++result_.loads;
      } else {
        for (int i = 0; i < 3 && overwritten < 0; ++i)
          if (i != from_memory) overwritten = i;
        assembler_.move(to, register_[value(overwritten)]);
      }
    }
    locked_ |= 1u << to;
    int order[3] = {overwritten, -1, -1};
    for (int i = 0, place = 1; i < 3; ++i)
      if (i != overwritten && i != from_memory) order[place++] = i;
    if (from_memory >= 0) order[2] = from_memory;
    for (int place = 1; place < 3; ++place)
      if (order[place] != from_memory && !in_register(value(order[place]))) load(value(order[place]));
    const int second = register_[value(order[1])];
    const uint8_t table = permute(op.table, order);
    if (from_memory >= 0)
      assembler_.ternary_memory(to, second, static_cast<uint32_t>(slot_[value(from_memory)]), table);
    else
      assembler_.ternary(to, second, register_[value(order[2])], table);
    release_dead(op);
    hold(to, op.out);
  }

  static constexpr uint32_t kSoon = 4000;

  const FusedProgram& program_;
  MachineCode result_;
  Assembler assembler_;
  uint32_t at_ = 0, locked_ = 0;
  std::vector<uint32_t> start_, uses_, cursor_;  // operations that read each value
  std::vector<uint8_t> kept_;                    // planes stay to the end
  std::vector<int64_t> slot_;
  std::vector<int8_t> register_;
  std::vector<uint32_t> free_slots_;
  int64_t holds_[kRegisters];
};

}  // namespace

MachineCode emit_machine_code(const FusedProgram& program, uint32_t inputs) { return Emitter(program, inputs).run(); }

#if defined(__unix__) || defined(__APPLE__)

CodeBuffer::~CodeBuffer() {
  if (memory_) munmap(memory_, size_);
}

bool CodeBuffer::make(const std::vector<uint8_t>& code, std::string* message) {
  size_ = (code.size() + 4095) / 4096 * 4096;
  memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    *message = std::string("no memory for the machine code: ") + std::strerror(errno);
    return false;
  }
  std::memcpy(memory_, code.data(), code.size());
  if (mprotect(memory_, size_, PROT_READ | PROT_EXEC)) {
    *message = std::string("the system refuses executable memory: ") + std::strerror(errno);
    return false;
  }
  return true;
}

#else

CodeBuffer::~CodeBuffer() {}
bool CodeBuffer::make(const std::vector<uint8_t>&, std::string* message) {
  *message = "machine code is not supported on this system";
  return false;
}

#endif

}  // namespace lgn
