// The kernels of lookup tables as plain functions on host memory, for test_cuda_lut.py.
#include "cuda_on_host.h"
// After the stand-ins for CUDA's keywords:
#include "../../../ext/cuda/lut.cu"
#include "../../../ext/cuda/lut_plan.h"

using namespace lgn::cuda;

extern "C" {

static LutArgs lut_args(int32_t storage, int32_t inputs, int64_t gates, int64_t batch, const void* x, int64_t x_pitch,
                        const void* table, const int32_t* indices) {
  return {static_cast<Storage>(storage), inputs, gates, batch, x, x_pitch, table, indices};
}

void host_lut_forward(int32_t storage, int32_t inputs, int64_t gates, int64_t batch, const void* x, int64_t x_pitch,
                      const void* table, const int32_t* indices, void* y, int64_t y_pitch) {
  lut_forward(lut_args(storage, inputs, gates, batch, x, x_pitch, table, indices), y, y_pitch, nullptr);
}

int64_t host_lut_slice(int32_t storage, int32_t inputs, int64_t gates, int64_t batch, int64_t part_bytes) {
  return lut_slice(lut_args(storage, inputs, gates, batch, nullptr, 0, nullptr, nullptr), part_bytes);
}

// Returns the place of an index outside the features, or -1.
int64_t host_lut_backward(int32_t storage, int32_t inputs, int64_t gates, int64_t batch, const void* x, int64_t x_pitch,
                          const void* table, const int32_t* indices, const void* grad, int64_t grad_pitch,
                          void* grad_table, int64_t samples, void* grad_x, int64_t grad_x_pitch, void* parts,
                          int64_t features) {
  const LutUses uses = make_lut_uses(indices, inputs * gates, features);
  if (uses.bad_use >= 0) return uses.bad_use;
  lut_backward(lut_args(storage, inputs, gates, batch, x, x_pitch, table, indices),
               {grad, grad_pitch, grad_table, samples, grad_x, grad_x_pitch, parts, uses.uses.data(), uses.begin.data(),
                features},
               nullptr);
  return -1;
}

void host_lut_packed(const uint8_t* x, int64_t x_pitch, const int64_t* ids, const int32_t* indices, int32_t inputs,
                     int64_t gates, int64_t row_bytes, uint8_t* y, int64_t y_pitch) {
  lut_packed(x, x_pitch, ids, indices, inputs, gates, row_bytes, y, y_pitch, nullptr);
}
void host_lut_ids(const float* logits, int64_t gates, int64_t entries, int64_t* ids) {
  lut_ids(logits, gates, entries, ids, nullptr);
}

}  // extern "C"
