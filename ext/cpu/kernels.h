// Plain C interface between the torch binding and the CPU kernels.
//
// No torch header comes in here, so that the kernels compile in seconds, once per instruction set, and can be run alone
// under sanitizers. Kernels know nothing of threads: the caller cuts the work into ranges and tiles and calls them.
//
// Activations are rows of samples: row `f` is feature `f`, `pitch` bytes apart, 64-byte aligned, padded to whole lines
// of 64 bytes. A tile is a run of lines of every row. Lanes past the batch may hold anything on input; kernels mask
// them.
#pragma once

#include <cstdint>

namespace lgn {

constexpr int64_t kLineBytes = 64;
// Lines of a tile; wider tiles no longer fit the registers that carry a row from gate to gate.
constexpr int kTileLines = 8;
// Sums over a tile are taken apart in runs of this many lines and added afterwards, so that two threads that share the
// tile produce the bits that one thread does.
constexpr int kSumLines = 4;

// One gate in the order of a plan (plan.h). `i` is the input it shares with the gate before it, `j` the other one.
struct Step {
  int32_t gate;
  int32_t i;
  int32_t j;
  uint32_t flags;
};

enum StepFlags : uint32_t {
  kSwap = 1,    // i is the gate's second input and j its first
  kStart = 2,   // i is not the j of the step before
  kFirstI = 4,  // no earlier step touches i (only set with kStart)
  kFirstJ = 8,  // no earlier step touches j, nor does this step through i
  kLast = 16,   // the next step is a start, or there is none
};

struct Tile {
  int64_t offset;   // bytes from the start of a row
  int lines;        // 1 … kTileLines
  int64_t samples;  // samples of the batch in the tile; all lines but the last are full
};

// Destination of a table's gradient: sums of g, g·a, g·b, g·a·b over the samples, [gates][4], added to what is there.
// `rest` takes the lines from kSumLines on, and may be the same array.
struct SumRows {
  void* head;
  void* rest;
};

// Kernels of one storage type. Tables and sums are float, or double where the storage is. "Unpacked" rows hold sums of
// one tile in the order in which a kernel keeps them in registers: slot(s) tells where sample s of a tile is.
struct LayerKernels {
  int64_t element_bytes;
  int64_t sum_bytes;
  int64_t (*slot)(int64_t sample);
  // y[gate] = gate(x[i], x[j]) for steps begin … end-1; `stream` writes past the caches.
  void (*forward)(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t begin, int64_t end,
                  char* y, int64_t y_pitch, const Tile& tile, bool stream);
  // grad holds one row a gate, or, if group > 0, unpacked rows: one for every `group` gates, padding lanes 0. grad_x is
  // null if it is not wanted; every row that some step touches is overwritten. With `wide`, grad_x holds unpacked sums.
  void (*backward)(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                   const void* table, const Step* steps, int64_t count, char* grad_x, int64_t grad_x_pitch, bool wide,
                   const SumRows& sums, const Tile& tile, bool stream);
  // Rounds unpacked sums of a tile to storage.
  void (*pack_rows)(const char* sums, int64_t sums_pitch, int64_t rows, char* out, int64_t out_pitch, const Tile& tile);
  // Unpacked sums of every `group` gates, [gates / group] rows of kTileLines lines each; `scratch` has the same size.
  void (*group_forward)(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t count,
                        int64_t group, void* sums, void* scratch, const Tile& tile);
  // The same of rows that are there already.
  void (*group_rows)(const char* x, int64_t x_pitch, int64_t rows, int64_t group, void* sums, const Tile& tile);
  // Table gradients from the sums: [gates][4] to [gates][4], adding `parts` arrays first.
  void (*table_gradient)(const void* sums, int64_t parts, int64_t gates, int64_t begin, int64_t end, void* out);
  // Softmax of 16 logits to a table of 4, and back.
  void (*softmax_table)(const void* logits, int64_t begin, int64_t end, void* table);
  void (*softmax_table_backward)(const void* grad, const void* logits, int64_t begin, int64_t end, void* out);
};

// Kernels on packed bits. A row of packed samples is a string of bytes, sample s in bit s % 8 of byte s / 8, whatever
// the width of the words (little-endian). Rows are padded to whole lines and every byte of them may be read and
// written.
struct BitKernels {
  // x: bools, sample stride 1 and feature stride `x_feature`, or the other way round.
  void (*pack)(const uint8_t* x, int64_t x_sample, int64_t x_feature, int64_t samples, int64_t begin, int64_t end,
               uint8_t* out, int64_t pitch);
  // out: bools [samples, features], contiguous.
  void (*unpack)(const uint8_t* x, int64_t pitch, int64_t samples, int64_t features, int64_t begin, int64_t end,
                 uint8_t* out);
  void (*logic)(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                int64_t begin, int64_t end, uint8_t* y, int64_t y_pitch);
  // Set bits of rows begin … end-1 per sample of the 8-byte word at `byte`: counts[64].
  void (*count)(const uint8_t* x, int64_t pitch, int64_t byte, int64_t begin, int64_t end, int32_t* counts);
};

struct Kernels {
  const char* name;
  LayerKernels f32;
  LayerKernels bf16;
  BitKernels bits;
};

// One set per instruction set, each from its own compilation of isa.cpp.
const Kernels& kernels_baseline();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
// double is there for gradient checks and has one plain build.
const LayerKernels& kernels_f64();

// The best set that this processor runs; LGN_CPU_ISA=baseline|avx2|avx512 asks for a lesser one.
const Kernels& kernels();

}  // namespace lgn
