// The kernels of one instruction set. Compiled once for each, with LGN_ISA naming the set and the flags to match.
#include "bit_logic.h"
#include "bit_tree.h"
#include "bits.h"
#include "choices.h"
#include "layer.h"
#include "lut.h"
#include "softmax.h"
#include "tree.h"

#define LGN_JOIN(a, b) a##b
#define LGN_NAME(a, b) LGN_JOIN(a, b)
#define LGN_TEXT(a) #a
#define LGN_STRING(a) LGN_TEXT(a)

namespace lgn {
namespace {

constexpr Kernels make_kernels() {
  Kernels k{
      LGN_STRING(LGN_ISA), layer_kernels<float>(), layer_kernels<Bf16>(), bit_kernels(),
      bit_layer_kernels(), bit_tree_kernels(),     lut_bit_kernels(),     {&largest_index, &choose, &choose_backward}};
  k.f32.lut = lut_kernels<float>();
  k.f32.choices = &choices<float>;
  k.bf16.choices = &choices<Bf16>;
  k.f32.softmax_table = &softmax_table_f32;
  k.f32.softmax_table_backward = &softmax_table_backward_f32;
  k.f32.tree = tree_kernels<float>();
  k.bf16.tree = tree_kernels<Bf16>();
  return k;
}

}  // namespace

const Kernels& LGN_NAME(kernels_, LGN_ISA)() {
  static constexpr Kernels kSet = make_kernels();
  return kSet;
}

#if defined(LGN_WITH_F64)
const LayerKernels& kernels_f64() {
  static constexpr LayerKernels kSet = [] {
    LayerKernels k = layer_kernels<double>();
    k.lut = lut_kernels<double>();
    k.choices = &choices<double>;
    k.softmax_table = &softmax_table_f64;
    k.softmax_table_backward = &softmax_table_backward_f64;
    k.tree = tree_kernels<double>();
    return k;
  }();
  return kSet;
}
#endif

}  // namespace lgn
