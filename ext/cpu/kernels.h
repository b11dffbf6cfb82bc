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

#include "lut_kernels.h"
#include "tree_kernels.h"

namespace lgn {

constexpr int64_t kLineBytes = 64;
// Lines of a tile; wider tiles no longer fit the registers that carry a row from gate to gate.
constexpr int kTileLines = 8;
// One gate in the order of a plan (plan.h). `i` is the input it shares with the gate before it, `j` the other one.
// Flags speak of one chunk of the plan: what other chunks touch is not seen.
struct Step {
  int32_t gate;
  int32_t i;
  int32_t j;
  uint32_t flags;
};

enum StepFlags : uint32_t {
  kSwap = 1,     // i is the gate's second input and j its first
  kStart = 2,    // i is not the j of the step before, or that is in another chunk
  kFirstI = 4,   // no earlier step touches i (only set with kStart)
  kFirstJ = 8,   // no earlier step touches j, nor does this step through i
  kLast = 16,    // the next step is a start, or there is none
  kSideI = 32,   // the gradient of i goes to the side row that is next in the chunk's list (only set with kStart)
  kSideJ = 64,   // the gradient of j goes to the side row that is next in the chunk's list
  kTrail = 128,  // a trail starts here, whatever the chunks are
};

// A run of steps that can be visited beside the others: an input that an earlier chunk touches has a row of its own in
// this one, a side row behind the rows of the inputs, to be added afterwards.
struct Chunk {
  int64_t begin, end;  // steps
  int64_t side_begin;  // the first of its entries in the plan's list of side rows
};

struct Tile {
  int64_t offset;   // bytes from the start of a row
  int lines;        // 1 … kTileLines
  int64_t samples;  // samples of the batch in the tile; all lines but the last are full
};

// Destination of a table's gradient, [gates][4]. A batch of one tile gives the gradient itself, written once a gate;
// otherwise sums of g, g·a, g·b, g·a·b over the samples are added to what is there, for table_gradient to finish.
struct TableRows {
  void* data;
  bool sums;
};

// Destination of the gradient of x: rows of inputs, then side rows. `wide` rows hold unpacked sums.
struct GradRows {
  char* data;  // null if it is not wanted
  int64_t pitch;
  const int32_t* side;  // the chunk's list of side rows
  bool wide;
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
  // Steps are those of a chunk. grad holds one row a gate, or, if group > 0, unpacked rows: one for every `group`
  // gates, padding lanes 0. Every row of grad_x that some step touches is overwritten.
  void (*backward)(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                   const void* table, const Step* steps, int64_t count, const GradRows& grad_x,
                   const TableRows& grad_table, const Tile& tile, bool stream);
  // Adds a side row to the row of its input.
  void (*add_row)(const char* from, char* to, bool wide, const Tile& tile);
  // Rounds unpacked sums of a tile to storage.
  void (*pack_rows)(const char* sums, int64_t sums_pitch, int64_t rows, char* out, int64_t out_pitch, const Tile& tile);
  // Unpacked sums of every `group` gates over `count` steps, `groups` rows of kTileLines lines each; `scratch` has the
  // same size.
  void (*group_forward)(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t count,
                        int64_t group, int64_t groups, void* sums, void* scratch, const Tile& tile);
  // The same of rows that are there already.
  void (*group_rows)(const char* x, int64_t x_pitch, int64_t rows, int64_t group, void* sums, const Tile& tile);
  // Table gradients from the sums: [gates][4] to [gates][4], adding `parts` arrays first.
  void (*table_gradient)(const void* sums, int64_t parts, int64_t gates, int64_t begin, int64_t end, void* out);
  // Learned connections (choices.h): for gates begin … end-1, from rows of grad, one a gate, and their two lists of
  // `count` candidates, [gates][2][count], to the gradients of each candidate's share; adds to `out` if there is more.
  void (*choices)(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, const void* table,
                  const int32_t* a, const int32_t* b, const int32_t* candidates, int64_t count, int64_t begin,
                  int64_t end, void* out, bool more, const Tile& tile);
  // Softmax of 16 logits to a table of 4, and back.
  void (*softmax_table)(const void* logits, int64_t begin, int64_t end, void* table);
  void (*softmax_table_backward)(const void* grad, const void* logits, int64_t begin, int64_t end, void* out);
  TreeKernels tree;
  LutKernels lut;  // not of bf16, which is computed in float
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

// Straight-through layers (bit_logic.h): packed rows as above, but padded to kBitRowBytes; gradients and sums float.
constexpr int64_t kBitRowBytes = 16;
struct BitGates {
  const uint8_t* x;  // packed inputs
  int64_t x_pitch;
  const int32_t* a;
  const int32_t* b;
  const float* table;
};

// A gate that reads an input, and the gate's other input.
struct BitUse {
  uint32_t use;  // 2 · gate + side
  int32_t other;
};

// The gradient of a layer's inputs, still to be summed: row i over its uses begin[i] … begin[i + 1] - 1. Behind the
// last use lie kUsesAhead more, of any gate, whose rows are asked for and not used.
constexpr int64_t kUsesAhead = 12;
struct PulledRows {
  BitGates layer;
  float factor;
  const char* grad;  // as of `backward`
  int64_t grad_pitch;
  int64_t group;
  const BitUse* uses;
  const int32_t* begin;
};

// What the gates of a layer choose among, [gates][2][count], and where the gradients of the shares go, if they are
// wanted: those of the logits, if the shares are given.
struct Candidates {
  const int32_t* rows;
  int64_t count;
  const float* shares;
  float* grad;
  bool more;  // whether to add to what is in `grad`; then without shares
};

struct BitLayerKernels {
  // Bits x > 0.5 of rows of float.
  void (*pack)(const char* x, int64_t x_pitch, int64_t samples, int64_t begin, int64_t end, uint8_t* out,
               int64_t pitch);
  // Logits [gates][width], width 4 or 16, to gate ids.
  void (*gate_ids)(const float* logits, int64_t width, int64_t begin, int64_t end, uint8_t* ids);
  // Numbers begin … end-1 of logits to sigmoids, and of gradients of sigmoids to those of the logits, in place.
  void (*sigmoid)(const float* logits, int64_t begin, int64_t end, float* out);
  void (*sigmoid_backward)(const float* sigmoids, int64_t begin, int64_t end, float* grad);
  void (*forward)(const uint8_t* x, int64_t x_pitch, const uint8_t* gates, const int32_t* a, const int32_t* b,
                  int64_t begin, int64_t end, uint8_t* y, int64_t y_pitch);
  // As LayerKernels::backward, but rows of grad and grad_x are those of one tile; tile.offset tells where its bits are.
  // Lanes of grad past the batch are 0. The gradient of x is multiplied by `factor`.
  void (*backward)(const uint8_t* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                   const float* table, float factor, const Step* steps, int64_t count, const GradRows& grad_x,
                   const TableRows& grad_table, const Tile& tile);
  // Rows begin … end-1 of the gradient of a layer's inputs, those of one tile. Rows that nobody reads are 0.
  void (*pull)(const PulledRows& from, int64_t begin, int64_t end, char* out, int64_t out_pitch, const Tile& tile);
  // The parameters' gradients of gates begin … end-1 of a layer of learned wires, from rows of grad as in `backward`,
  // or from rows that are pulled; those that anybody reads are left in grad, unless it is null.
  void (*learned)(const BitGates& layer, const Candidates& candidates, const PulledRows* above, char* grad,
                  int64_t grad_pitch, int64_t group, int64_t begin, int64_t end, const TableRows& grad_table,
                  const Tile& tile);
};

// Learned connections. Row 2g of logits and candidates, [gates][2][count], belongs to the first input of gate g and row
// 2g + 1 to its second.
struct ChoiceKernels {
  // The largest of some indices, of which negative ones are larger than all others; 0 of none.
  uint32_t (*largest)(const int32_t* indices, int64_t count);
  // For rows begin … end-1: the softmax of the logits, and the wire that is chosen: the first with the largest logit,
  // or drawn by a uniform number a row in `level`, with the probabilities that logits / noise have.
  void (*choose)(const float* logits, const int32_t* candidates, int64_t count, const float* level, float noise,
                 int64_t begin, int64_t end, int32_t* a, int32_t* b, float* shares);
  // From gradients of the shares to those of the logits.
  void (*choose_backward)(const float* grad, const float* shares, int64_t count, int64_t begin, int64_t end,
                          float* out);
};

struct Kernels {
  const char* name;
  LayerKernels f32;
  LayerKernels bf16;
  BitKernels bits;
  BitLayerKernels bit_layer;
  BitTreeKernels bit_tree;
  LutBitKernels lut_bits;
  ChoiceKernels choice;
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
