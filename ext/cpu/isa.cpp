// The kernels of one instruction set. Compiled once for each, with LGN_ISA naming the set and the flags to match, and
// for double alone, with LGN_WITH_F64, by itself or in the plain build.
#include "isa.h"

#include <type_traits>

#include "bit_tree_simd.h"
#include "bits_simd.h"
#include "choices_simd.h"
#include "dense_simd.h"
#include "dense_softmax.h"
#include "lut_simd.h"
#include "straight_through_simd.h"
#include "tree_simd.h"

#define LGN_JOIN(a, b) a##b
#define LGN_NAME(a, b) LGN_JOIN(a, b)
#define LGN_TEXT(a) #a
#define LGN_STRING(a) LGN_TEXT(a)

namespace lgn {
namespace {

template <typename S>
constexpr LayerKernels layer_kernels() {
  LayerKernels k{dense_kernels<S>(), tree_kernels<S>(), {}, &choices<S>};
  if constexpr (!std::is_same_v<S, Bf16>) k.lut = lut_kernels<S>();
  return k;
}

#if defined(LGN_ISA)
constexpr Kernels make_kernels() {
  Kernels k{LGN_STRING(LGN_ISA), layer_kernels<float>(), layer_kernels<Bf16>(), bit_kernels(),
            bit_layer_kernels(), bit_tree_kernels(),     lut_bit_kernels(),     choice_kernels()};
  k.f32.softmax_table = &softmax_table_f32;
  k.f32.softmax_table_backward = &softmax_table_backward_f32;
  return k;
}
#endif

}  // namespace

#if defined(LGN_ISA)
const Kernels& LGN_NAME(kernels_, LGN_ISA)() {
  static constexpr Kernels kSet = make_kernels();
  return kSet;
}
#endif

#if defined(LGN_WITH_F64)
const LayerKernels& kernels_f64() {
  static constexpr LayerKernels kSet = [] {
    LayerKernels k = layer_kernels<double>();
    k.softmax_table = &softmax_table_f64;
    k.softmax_table_backward = &softmax_table_backward_f64;
    return k;
  }();
  return kSet;
}
#endif

}  // namespace lgn
