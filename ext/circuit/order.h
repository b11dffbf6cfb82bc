// Evaluation orders of a circuit.
#pragma once
#include <vector>

#include "api.h"

namespace lgn {

// The chain order: after a gate, whatever its value completes; then the next reader of the latest value, and before it
// the gates that reader still misses. Values are read soon after they are made, which keeps them in registers.
// Gates that no output needs are left out.
std::vector<int64_t> chain_order(const LgnCircuit& circuit);

}  // namespace lgn
