// What the drivers of the CPU kernels share: random numbers, exactly sized buffers, storage types, comparison.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

inline std::mt19937 generator(7);

inline double uniform() { return std::uniform_real_distribution<double>(0, 1)(generator); }
inline int below(int64_t n) { return static_cast<int>(generator() % static_cast<uint32_t>(n)); }

inline void check(double actual, double expected, double tolerance, const char* what) {
  if (std::fabs(actual - expected) <= tolerance * (1 + std::fabs(expected))) return;
  std::printf("%s: %.9g is not %.9g\n", what, actual, expected);
  std::exit(1);
}

// Aligned memory of exactly this many bytes, so that the sanitizer sees the first one past the end.
struct Buffer {
  char* data;
  explicit Buffer(int64_t bytes)
      : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes ? bytes : 64)))) {
    std::memset(data, 0xff, static_cast<size_t>(bytes));  // NaN in every format
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

struct Bf16Bits {
  uint16_t bits;
};
inline double get(const float& v) { return v; }
inline double get(const double& v) { return v; }
inline double get(const Bf16Bits& v) {
  const uint32_t wide = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &wide, 4);
  return f;
}
inline void set(float& v, double x) { v = static_cast<float>(x); }
inline void set(double& v, double x) { v = x; }
inline void set(Bf16Bits& v, double x) {
  const float f = static_cast<float>(x);
  uint32_t wide;
  std::memcpy(&wide, &f, 4);
  v.bits = static_cast<uint16_t>(wide >> 16);
}

// The convolution with trees of gates (tree_driver.cpp), on all storage types.
void run_trees();
// The same on packed samples (bit_tree_driver.cpp).
void run_bit_trees();
// Lookup tables (lut_driver.cpp), in single and double precision and on bits.
void run_luts();
// Learned connections (choices_driver.cpp), on all storage types and on bits.
void run_choices();
