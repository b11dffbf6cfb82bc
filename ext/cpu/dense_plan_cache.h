// The plans that were made, by their wirings.
#pragma once

#include <functional>
#include <memory>

#include "dense_plan.h"

namespace lgn {

// Whether the memory of a wiring is still in use.
typedef std::function<bool()> WiresLive;

// The plan of a wiring, made once and kept while the wires live. It is found by address and trusted only after
// comparing every index with the ones it was made for, so wires may change at any time. Safe to call from several
// threads and after a fork.
std::shared_ptr<const Plan> cached_plan(const int32_t* a, const int32_t* b, int64_t gates, int64_t inputs,
                                        const WiresLive& live);

}  // namespace lgn
