// Interface of the kernels of dense layers of gates, of group sums and of the softmax over gates.
#pragma once

#include <cstdint>

#include "tile.h"

namespace lgn {

// One gate in the order of a plan (dense_plan.h). `i` is the input it shares with the gate before it, `j` the other
// one. Flags speak of one chunk of the plan: what other chunks touch is not seen.
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

// Ranges of the softmax over gates begin at multiples of this.
constexpr int64_t kSoftmaxGates = 16;

// Kernels of one storage type. Tables and sums are float, or double where the storage is. "Unpacked" rows hold sums of
// one tile in the order in which a kernel keeps them in registers: slot(s) tells where sample s of a tile is.
struct DenseKernels {
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
  // Softmax of 16 logits to a table of 4, and back. `kept`, of float32 only and else null, has the probabilities of
  // whole blocks of kSoftmaxGates gates, in the order of the kernel: the backward pass is faster with them than
  // without.
  void (*softmax_table)(const void* logits, int64_t begin, int64_t end, void* table, void* kept);
  void (*softmax_table_backward)(const void* grad, const void* logits, const void* kept, int64_t begin, int64_t end,
                                 void* out);
};

}  // namespace lgn
