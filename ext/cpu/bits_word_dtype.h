// The integer that holds a number of packed samples: for the ops of the CPU and of CUDA.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <cstdint>

namespace lgn {

inline at::ScalarType word_dtype(int64_t bits) {
  switch (bits) {
    case 8:
      return at::kChar;
    case 16:
      return at::kShort;
    case 32:
      return at::kInt;
    case 64:
      return at::kLong;
    default:
      TORCH_CHECK_VALUE(false, "bits is ", bits, ", but samples are packed into words of 8, 16, 32 or 64 bits");
  }
}

}  // namespace lgn
