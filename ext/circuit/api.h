// The C interface of the circuit library: plain arrays in, plain arrays out, no torch and no Python headers, so that it
// builds in seconds and is called through ctypes. A circuit is the structure of arrays of lgn_lightning/circuit.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

extern "C" {

// A circuit; operand `c` is null for gates of two operands.
struct LgnCircuit {
  int64_t inputs, gates, outputs, classes;
  const uint8_t* tables;
  const int32_t *a, *b, *c;
  const int32_t* output_nodes;
};

// Where a pass writes its circuit; the arrays hold lgn_pass_capacity entries, `output_nodes` as many as before.
struct LgnResult {
  int64_t gates;
  uint8_t* tables;
  int32_t *a, *b, *c;
  int32_t* output_nodes;
};

// What a sweep does besides folding constants.
enum LgnRewrite : int32_t { kAbsorbInverters = 1, kHashStructure = 2 };

// Passes return 0, or -1 when memory is short.
int64_t lgn_pass_capacity(const LgnCircuit* circuit);
int lgn_rewrite(const LgnCircuit* circuit, int32_t flags, LgnResult* result);
int lgn_map_luts(const LgnCircuit* circuit, int32_t rounds, LgnResult* result);
// Covers a circuit with tables of up to `most` (3 to 6) inputs, no deeper than need be: by gate, inputs of the table
// that gives its value (0 where none does, as readers take it in), its level, the nodes that it reads (6 places a gate)
// and its entries, entry i being the value where bit k of i is that of leaf k. Returns -2 if a number is out of range.
int lgn_cover_luts(const LgnCircuit* circuit, int32_t most, uint8_t* inputs, int32_t* levels, int32_t* leaves,
                   uint64_t* tables);
int lgn_chain_order(const LgnCircuit* circuit, int64_t* order);

// Engines. Inputs are `kind` 0: bytes compared with `thresholds` (one sample a row of `row` bytes), 1: packed words.
enum LgnEngineKind : int32_t { kInterpreter = 0, kMachineCode = 1 };
enum LgnIsa : int32_t { kGeneric = 0, kAvx2 = 1, kAvx512 = 2 };

struct LgnEngine;
int32_t lgn_best_isa(void);
// Null on failure; the reason is written to `message`.
LgnEngine* lgn_engine_new(const LgnCircuit* circuit, int32_t kind, int32_t isa, char* message, int64_t size);
void lgn_engine_free(LgnEngine* engine);

// A step of a looped circuit, which runs before the engine's circuit: plain gates where there are `runs`, otherwise a
// kernel at many places. The arrays are described in lgn_lightning/circuit/run/loop_program.py.
struct LgnLoopStep {
  int64_t runs, parts, places, window, chunk;
  const int32_t *run, *part_gates, *gates, *part_results, *results, *reads, *writes;
};
// Takes over the loops in front of an engine whose circuit's inputs are their slots. Call it before the engine runs.
// Returns 0, or -1 when memory is short.
int lgn_engine_set_loops(LgnEngine* engine, int64_t inputs, int64_t register_slots, const LgnLoopStep* steps,
                         int64_t count);
// What 0: slots, 1: operations, 2: bytes of code or program, 3: loads, 4: stores, 5: samples in a block.
int64_t lgn_engine_info(const LgnEngine* engine, int32_t what);
// Rows of bytes: bit (t * row + p) of a sample is bytes[p] > levels[t]. Any of the results may be null.
int lgn_engine_bytes(const LgnEngine* engine, const uint8_t* rows, int64_t row, const uint8_t* levels,
                     int64_t num_levels, int64_t samples, int32_t threads, int32_t* scores, int32_t* classes);
// A comparison that makes an input of a row of a table: the value at `offset` of the struct, of a type, with a
// constant, which of floating point types is the bits of a double. Operators are those of
// lgn_lightning/base/columns.py.
enum LgnType : int32_t { kFloat32 = 0, kFloat64 = 1, kInt32 = 2, kInt64 = 3 };
enum LgnOp : int32_t { kGreater = 0, kEqual = 1, kMissing = 2, kBit = 3, kGray = 4 };
struct LgnComparison {
  int32_t offset, type, op, input;
  int64_t constant;
};
// Rows of `size` bytes, structs of columns. Comparisons of a column stand together; inputs without one are not read.
int lgn_engine_rows(const LgnEngine* engine, const uint8_t* rows, int64_t size, const LgnComparison* comparisons,
                    int64_t count, int64_t samples, int32_t threads, int32_t* scores, int32_t* classes);
// Packed words [inputs][words]: bit j of word i is sample 64 i + j.
int lgn_engine_packed(const LgnEngine* engine, const uint64_t* inputs, int64_t words, int64_t samples, int32_t threads,
                      int32_t* scores, int32_t* classes, uint64_t* output_bits);
// Packed sequences [steps][num_inputs][words] through an engine of one step: a circuit of inputs and then state, whose
// outputs, a class each, are `counted` ones in equal groups and then the next state. Scores [samples][classes] are the
// counts of the last step of each sample, or the sum over its steps. `lengths` may be null: all steps count.
struct LgnSequences {
  const uint64_t* inputs;
  const uint8_t* initial;
  const int64_t* lengths;
  int32_t* scores;
  int64_t steps, num_inputs, state, counted, classes, words, samples, summed;
};
// Returns 0, or -1 when memory is short.
int lgn_engine_sequences(const LgnEngine* engine, const LgnSequences* job, int32_t threads);
}

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
