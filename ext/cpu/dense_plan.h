// The order in which the gates of a layer are visited.
#pragma once

#include <cstdint>
#include <vector>

#include "straight_through.h"

namespace lgn {

// Gates are edges between their two inputs. Walking them as trails, each gate shares an input with the one before, so
// that a row is read once where two gates use it, and its gradient is summed in registers and written once. A layer
// whose inputs are each used twice, the usual random wiring, is a handful of closed trails.
//
// For threads the steps are cut into chunks of like length. How many depends on the wiring alone, so that results do
// not depend on the number of threads; a wiring whose chunks share too many inputs has fewer.
struct Plan {
  struct Merge {
    int32_t row;   // an input
    int32_t side;  // the side row to add to it
  };
  std::vector<Step> steps;
  std::vector<Chunk> chunks;
  std::vector<int32_t> side_list;  // of each flag kSideI or kSideJ in turn, the row
  std::vector<Merge> merges;       // in the order in which they must be added
  int64_t side_rows = 0;           // rows inputs … inputs + side_rows - 1
  std::vector<int32_t> unused;     // inputs that no gate has
  int64_t revisits = 0;            // steps whose j was touched before
  int64_t max_uses = 0;            // gates on the most used input
  int64_t bad_gate = -1;           // a gate with an index outside the inputs; then there are no steps
};

Plan make_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs);

// A gate with an index outside the inputs, or -1.
int64_t find_bad_gate(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs);

// For wires that change at every step, who reads which input: `begin` gets inputs + 1 numbers and `uses` room for
// 2 · gates + kUsesAhead uses, as PulledRows has them, ascending by gate. `begin_above` are those of the next layer, if
// it has any: gates that nobody reads there have no gradient, and are left out.
void list_uses(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs, const int32_t* begin_above,
               int32_t* begin, BitUse* uses);

}  // namespace lgn
