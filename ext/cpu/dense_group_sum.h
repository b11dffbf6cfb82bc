// Group sums: of a layer's values while they are computed, and of values that are there.
#pragma once

#include <cstring>

#include "dense_step.h"
#include "simd.h"

namespace lgn {
namespace {

// Adds into short sums first and those into long ones, so that thousands of terms keep their last digits.
template <typename S>
struct TwoLevelSums {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  static constexpr int64_t kRowVectors = kTileLines * kLineVectors * St::kParts;
  static constexpr int64_t kShort = 256;
  char* sums;
  char* scratch;
  int64_t groups;
  int vectors;
  LGN_INLINE char* row(int64_t group) const { return scratch + group * kRowVectors * kVectorBytes; }
  void clear(char* rows) const { std::memset(rows, 0, static_cast<size_t>(groups * kRowVectors * kVectorBytes)); }
  void flush() const {
    for (int64_t r = 0; r < groups; r++) {
      for (int v = 0; v < vectors; v++) {
        char* to = sums + (r * kRowVectors + v) * kVectorBytes;
        store(to, load<Vec>(to) + load<Vec>(row(r) + v * kVectorBytes));
      }
    }
    clear(scratch);
  }
};

template <typename S, int N>
void group_forward_lines(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t count,
                         int64_t group, int64_t groups, void* sums, void* scratch, const Tile& tile) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  const int lines = N ? N : tile.lines;
  const int vectors = lines * kLineVectors;
  const TwoLevelSums<S> levels{static_cast<char*>(sums), static_cast<char*>(scratch), groups, vectors * St::kParts};
  levels.clear(levels.sums);
  levels.clear(levels.scratch);
  const int64_t flush_every =
      levels.groups * 16 > TwoLevelSums<S>::kShort ? levels.groups * 16 : TwoLevelSums<S>::kShort;
  x += tile.offset;
  for (int64_t p = 0; p < count; p++) {
    const Step step = steps[p];
    if (p + kAhead < count) prefetch_read(x + steps[p + kAhead].j * x_pitch, lines);
    const char* xi = x + step.i * x_pitch;
    const char* xj = x + step.j * x_pitch;
    char* out = levels.row(static_cast<uint32_t>(step.gate) / static_cast<uint32_t>(group));
    const Coefficients<Sum> c = coefficients(static_cast<const Sum*>(table), step);
    const Vec c0 = Vec{} + c.c0, ci = Vec{} + c.ci, cj = Vec{} + c.cj, cij = Vec{} + c.cij;
    for (int v = 0; v < vectors; v++) {
      Vec i[St::kParts], j[St::kParts];
      St::unpack(xi + v * kVectorBytes, i);
      St::unpack(xj + v * kVectorBytes, j);
      for (int u = 0; u < St::kParts; u++) {
        char* to = out + (v * St::kParts + u) * kVectorBytes;
        store(to, load<Vec>(to) + fma(fma(cij, i[u], cj), j[u], fma(ci, i[u], c0)));
      }
    }
    if ((p + 1) % flush_every == 0) levels.flush();
  }
  levels.flush();
}

template <typename S>
void group_rows(const char* x, int64_t x_pitch, int64_t rows, int64_t group, void* sums, const Tile& tile) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  const int vectors = tile.lines * kLineVectors;
  x += tile.offset;
  for (int64_t r = 0; r < rows / group; r++) {
    char* out = static_cast<char*>(sums) + r * TwoLevelSums<S>::kRowVectors * kVectorBytes;
    Vec total[TwoLevelSums<S>::kRowVectors] = {};
    for (int64_t start = 0; start < group; start += TwoLevelSums<S>::kShort) {
      Vec part[TwoLevelSums<S>::kRowVectors] = {};
      for (int64_t f = start; f < group && f < start + TwoLevelSums<S>::kShort; f++) {
        const char* from = x + (r * group + f) * x_pitch;
        for (int v = 0; v < vectors; v++) {
          Vec value[St::kParts];
          St::unpack(from + v * kVectorBytes, value);
          for (int u = 0; u < St::kParts; u++) part[v * St::kParts + u] += value[u];
        }
      }
      for (int v = 0; v < vectors * St::kParts; v++) total[v] += part[v];
    }
    for (int v = 0; v < vectors * St::kParts; v++) store(out + v * kVectorBytes, total[v]);
  }
}

template <typename S>
void group_forward(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t count, int64_t group,
                   int64_t groups, void* sums, void* scratch, const Tile& tile) {
  for_lines<S>(tile.lines, [&](auto n) {
    group_forward_lines<S, n>(x, x_pitch, table, steps, count, group, groups, sums, scratch, tile);
  });
}

}  // namespace
}  // namespace lgn
