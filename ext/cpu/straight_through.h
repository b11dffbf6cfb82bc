// Interface of the kernels of straight-through layers on packed bits.
#pragma once

#include <cstdint>

#include "dense.h"

namespace lgn {

// Straight-through layers (straight_through_simd.h): packed rows as above, but padded to kBitRowBytes; gradients and
// sums float.
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
                   const TableRows& grad_table, const Tile& tile, bool stream);
  // Rows begin … end-1 of the gradient of a layer's inputs, those of one tile. Rows that nobody reads are 0.
  void (*pull)(const PulledRows& from, int64_t begin, int64_t end, char* out, int64_t out_pitch, const Tile& tile);
  // The parameters' gradients of gates begin … end-1 of a layer of learned wires, from rows of grad as in `backward`,
  // or from rows that are pulled; those that anybody reads are left in grad, unless it is null.
  void (*learned)(const BitGates& layer, const Candidates& candidates, const PulledRows* above, char* grad,
                  int64_t grad_pitch, int64_t group, int64_t begin, int64_t end, const TableRows& grad_table,
                  const Tile& tile);
};

}  // namespace lgn
