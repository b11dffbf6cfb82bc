#include "machine_code.h"

#include <algorithm>
#include <cstring>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>

#include <cerrno>
#endif

#include "assembler.h"

namespace lgn {
namespace {

constexpr uint32_t kNever = ~0u;

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

// Registers by farthest next use (Belady), slots by liveness. A target (assembler.h) has the instructions.
template <class Target>
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
    for (at_ = 0; at_ < program_.operations.size(); ++at_) {
      if (at_ % Target::kPiece == 0) begin_piece();
      const Operation& op = program_.operations[at_];
      if constexpr (Target::kRegisters == 32) {
        if (op.operands == 3) {
          three_operands(op);
          continue;
        }
      }
      two_operands(op);
    }
    if (result_.pieces.empty()) begin_piece();
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

  // Ends a piece and begins the next: values pass from one to the other in slots.
  void begin_piece() {
    if (!result_.pieces.empty()) {
      leave_registers();
      assembler_.epilogue();
    }
    result_.pieces.push_back(assembler_.code.size());
    assembler_.prologue();
  }

  void leave_registers() {
    for (int64_t& v : holds_) {
      if (v < 0) continue;
      if (slot_[v] < 0) spill(static_cast<uint32_t>(v));
      register_[v] = -1;
      v = -1;
    }
  }

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
    for (int r = 0; r < Target::kRegisters; ++r) {
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
    const bool soon = next_use(b) < kNever - 1 && next_use(b) < at_ + kSoon;
    if (!in_register(b) && (soon || !Target::from_memory(table))) load(b);
    const int ra = register_[a], rb = register_[b];
    int to = dies(a) ? ra : rb >= 0 && dies(b) ? rb : -1;
    if (to < 0) to = take_register();
    if (rb >= 0)
      assembler_.binary(to, ra, rb, table);
    else
      assembler_.binary_memory(to, ra, static_cast<uint32_t>(slot_[b]), table);
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
  Target assembler_;
  uint32_t at_ = 0, locked_ = 0;
  std::vector<uint32_t> start_, uses_, cursor_;  // operations that read each value
  std::vector<uint8_t> kept_;                    // planes stay to the end
  std::vector<int64_t> slot_;
  std::vector<int8_t> register_;
  std::vector<uint32_t> free_slots_;
  int64_t holds_[Target::kRegisters];
};

}  // namespace

MachineCode emit_avx512(const FusedProgram& program, uint32_t inputs) { return Emitter<Avx512>(program, inputs).run(); }
MachineCode emit_avx2(const FusedProgram& program, uint32_t inputs) { return Emitter<Avx2>(program, inputs).run(); }

#if defined(__unix__) || defined(__APPLE__)

CodeBuffer::~CodeBuffer() {
  if (mapped_) munmap(mapped_, size_);
}

bool CodeBuffer::make(const std::vector<uint8_t>& code, std::string* message) {
  // Megabytes of code lie in huge pages: their addresses are looked up in no time, which makes nets of 384,000 gates a
  // sixth faster. A map need not begin at one.
  constexpr size_t kPage = 4096, kHugePage = size_t(1) << 21;
  const bool huge = code.size() >= kHugePage / 4;
  size_ = huge ? (code.size() + 2 * kHugePage - 1) / kHugePage * kHugePage : (code.size() + kPage - 1) / kPage * kPage;
  mapped_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) {
    mapped_ = nullptr;
    *message = std::string("no memory for the machine code: ") + std::strerror(errno);
    return false;
  }
  const size_t skipped = huge ? -reinterpret_cast<uintptr_t>(mapped_) % kHugePage : 0;
  code_ = static_cast<uint8_t*>(mapped_) + skipped;
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(code_, (code.size() + kHugePage - 1) / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  std::memcpy(code_, code.data(), code.size());
  if (mprotect(mapped_, size_, PROT_READ | PROT_EXEC)) {
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
