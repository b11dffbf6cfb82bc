#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "isa.h"

namespace lgn {
namespace {

// LGN_HAS_… are the sets that are linked in; a library for the processor that built it has just one, and not the plain
// build, which nothing would ever run there (LGN_NO_BASELINE).
const Kernels& choose() {
#if defined(LGN_HAS_AVX2) || defined(LGN_HAS_AVX512)
  const char* wish = std::getenv("LGN_CPU_ISA");
  [[maybe_unused]] const bool below_avx2 = wish != nullptr && std::strcmp(wish, "baseline") == 0;
  __builtin_cpu_init();
#if defined(LGN_HAS_AVX512)
  const bool below_avx512 = below_avx2 || (wish != nullptr && std::strcmp(wish, "avx2") == 0);
  if (!below_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return kernels_avx512();
  }
#endif
#if defined(LGN_HAS_AVX2)
  if (!below_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kernels_avx2();
#endif
#endif
#if defined(LGN_NO_BASELINE)
  throw std::runtime_error(
      "the CPU kernels were built for another processor; `lgn build --all-isa` serves all of them");
#else
  return kernels_baseline();
#endif
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace lgn

// For `lgn doctor`, which asks with ctypes.
extern "C" __attribute__((visibility("default"))) const char* lgn_cpu_isa() {
  try {
    return lgn::kernels().name;
  } catch (const std::runtime_error&) {
    return "none for this processor";
  }
}
