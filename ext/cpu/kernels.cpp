#include "kernels.h"

#include <cstdlib>
#include <cstring>

#include "isa.h"

namespace lgn {
namespace {

// LGN_HAS_… are the sets that are linked in.
const Kernels& choose() {
#if defined(LGN_HAS_AVX2) || defined(LGN_HAS_AVX512)
  const char* wish = std::getenv("LGN_CPU_ISA");
  const bool below_avx2 = wish != nullptr && std::strcmp(wish, "baseline") == 0;
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
  return kernels_baseline();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace lgn

// For `lgn doctor`, which asks with ctypes.
extern "C" __attribute__((visibility("default"))) const char* lgn_cpu_isa() { return lgn::kernels().name; }
