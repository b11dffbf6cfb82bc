// One layer of gates on real values: y = c0 + c1·x_i + (c2 + c3·x_i)·x_j, coefficients from the gate's table.
#pragma once

#include "dense_group_sum.h"
#include "dense_step.h"
#include "simd.h"

namespace lgn {
namespace {

template <typename S, int N>
void forward_lines(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t begin, int64_t end,
                   char* y, int64_t y_pitch, const Tile& tile, bool streaming) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  const int lines = N ? N : tile.lines;
  const int vectors = lines * kLineVectors;
  x += tile.offset;
  y += tile.offset;
  for (int64_t p = begin; p < end; p++) {
    const Step step = steps[p];
    if (streaming && p + kFar < end) {
      prefetch_far(x + steps[p + kFar].j * x_pitch, lines);
      prefetch_read(x + steps[p + kNear].j * x_pitch, lines);
    } else if (p + kAhead < end) {
      prefetch_read(x + steps[p + kAhead].j * x_pitch, lines);
      if (!streaming) prefetch_write(y + steps[p + kAhead].gate * y_pitch, lines);
    }
    const char* xi = x + step.i * x_pitch;
    const char* xj = x + step.j * x_pitch;
    char* out = y + step.gate * y_pitch;
    const Coefficients<Sum> c = coefficients(static_cast<const Sum*>(table), step);
    const Vec c0 = Vec{} + c.c0, ci = Vec{} + c.ci, cj = Vec{} + c.cj, cij = Vec{} + c.cij;
    for (int v = 0; v < vectors; v++) {
      Vec i[St::kParts], j[St::kParts], r[St::kParts];
      St::unpack(xi + v * kVectorBytes, i);
      St::unpack(xj + v * kVectorBytes, j);
      for (int u = 0; u < St::kParts; u++) r[u] = fma(fma(cij, i[u], cj), j[u], fma(ci, i[u], c0));
      if (streaming) {
        stream(out + v * kVectorBytes, St::pack(r));
      } else {
        store(out + v * kVectorBytes, St::pack(r));
      }
    }
  }
  if (streaming) stream_fence();
}

// Where the gradient of x goes: stored elements, or sums for inputs whose many gradients must not be rounded each.
template <typename S, bool kWide>
struct GradFormat {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  static constexpr int kStride = kWide ? kVectorBytes * St::kParts : kVectorBytes;
  static LGN_INLINE void read(const char* p, Vec* v) {
    if constexpr (kWide) {
      for (int u = 0; u < St::kParts; u++) v[u] = load<Vec>(p + u * kVectorBytes);
    } else {
      St::unpack(p, v);
    }
  }
  static LGN_INLINE void write(char* p, const Vec* v, bool streaming) {
    if constexpr (kWide) {
      for (int u = 0; u < St::kParts; u++) store(p + u * kVectorBytes, v[u]);
    } else if (streaming) {
      stream(p, St::pack(v));
    } else {
      store(p, St::pack(v));
    }
  }
};

// From sums of g, g·x_i, g·x_j and g·x_i·x_j over samples to the gradients of one gate's table. Where other tiles
// follow, adds to the sums instead. i and j are b and a where the step is swapped.
template <typename Sum>
LGN_INLINE void give_table_gradient(const Sum (&total)[4], const Step& step, const TableRows& grad_table) {
  const int swap = static_cast<int>(step.flags & kSwap);
  const Sum with_a = total[1 + swap], with_b = total[2 - swap];
  Sum* to = static_cast<Sum*>(grad_table.data) + 4 * static_cast<int64_t>(step.gate);
  if (grad_table.sums) {
    to[0] += total[0];
    to[1] += with_a;
    to[2] += with_b;
    to[3] += total[3];
  } else {
    to[0] = total[0] - with_a - with_b + total[3];
    to[1] = with_b - total[3];
    to[2] = with_a - total[3];
    to[3] = total[3];
  }
}

template <typename S, int N, bool kGradX, bool kGrouped, bool kWide>
void backward_lines(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                    const void* table, const Step* steps, int64_t count, const GradRows& grad_x,
                    const TableRows& grad_table, const Tile& tile, bool streaming) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  typedef typename St::Sum Sum;
  typedef GradFormat<S, kWide> Rows;
  constexpr int kParts = St::kParts;
  constexpr int kMaxVectors = (N ? N : kTileLines) * kLineVectors;
  const int lines = N ? N : tile.lines;
  const int vectors = lines * kLineVectors, last = vectors - kLineVectors;
  const TailMask<S> tail(tile);
  x += tile.offset;
  if (!kGrouped) grad += tile.offset;
  char* const out = kGradX ? grad_x.data + (kWide ? 0 : tile.offset) : nullptr;
  const int32_t* side = grad_x.side;
  char *gi = nullptr, *gj = nullptr;
  // Of row i: its gradient so far and its values. The first step is a start and fills them.
  Vec carry[kMaxVectors * kParts], held[kMaxVectors * kParts];
  for (int v = 0; v < vectors * kParts; v++) carry[v] = held[v] = Vec{};
  for (int64_t p = 0; p < count; p++) {
    const Step step = steps[p];
    if (p + kFar < count) {
      const Step& next = steps[p + kAhead];
      prefetch_far(x + steps[p + kFar].j * x_pitch, lines);
      prefetch_read(x + steps[p + kNear].j * x_pitch, lines);
      if (!kGrouped) prefetch_read(grad + next.gate * grad_pitch, lines);
      if (kGradX && !streaming) prefetch_write(out + next.j * grad_x.pitch, kWide ? lines * kParts : lines);
    }
    const char* xj = x + step.j * x_pitch;
    const char* g =
        grad +
        (kGrouped ? static_cast<int64_t>(static_cast<uint32_t>(step.gate) / static_cast<uint32_t>(group)) : step.gate) *
            grad_pitch;
    gi = gj;
    if (step.flags & kStart) {
      if (kGradX) gi = out + (step.flags & kSideI ? *side++ : step.i) * grad_x.pitch;
      for (int v = 0; v < vectors; v++) {
        Vec* h = held + v * kParts;
        Vec* k = carry + v * kParts;
        St::unpack(x + step.i * x_pitch + v * kVectorBytes, h);
        for (int u = 0; u < kParts; u++) {
          if (v >= last) h[u] = masked(h[u], tail.mask[(v - last) * kParts + u]);
          k[u] = Vec{};
        }
        if (kGradX && !(step.flags & kFirstI)) Rows::read(gi + v * Rows::kStride, k);
      }
    }
    if (kGradX) gj = out + (step.flags & kSideJ ? *side++ : step.j) * grad_x.pitch;
    const Coefficients<Sum> c = coefficients(static_cast<const Sum*>(table), step);
    const Vec ci = Vec{} + c.ci, cj = Vec{} + c.cj, cij = Vec{} + c.cij;
    const bool first_j = step.flags & kFirstJ;
    Vec s[4] = {};
    const auto body = [&](int v, bool fresh) __attribute__((always_inline)) {
      Vec* h = held + v * kParts;
      Vec* k = carry + v * kParts;
      Vec gv[kParts], j[kParts];
      if (kGrouped) {
        for (int u = 0; u < kParts; u++) gv[u] = load<Vec>(g + (v * kParts + u) * kVectorBytes);
      } else {
        St::unpack(g + v * kVectorBytes, gv);
      }
      St::unpack(xj + v * kVectorBytes, j);
      Vec with_i[kParts], with_j[kParts];
      for (int u = 0; u < kParts; u++) {
        if (v >= last) {
          if (!kGrouped) gv[u] = masked(gv[u], tail.mask[(v - last) * kParts + u]);
          j[u] = masked(j[u], tail.mask[(v - last) * kParts + u]);
        }
        with_i[u] = gv[u] * h[u];
        with_j[u] = gv[u] * j[u];
        s[0] += gv[u];
        s[1] += with_i[u];
        s[2] += with_j[u];
        s[3] = fma(with_i[u], j[u], s[3]);
        h[u] = j[u];
        if (kGradX) k[u] += fma(cij, with_j[u], ci * gv[u]);
      }
      if (kGradX) {
        Rows::write(gi + v * Rows::kStride, k, streaming);
        if (fresh) {
          for (int u = 0; u < kParts; u++) k[u] = Vec{};
        } else {
          Rows::read(gj + v * Rows::kStride, k);
        }
        for (int u = 0; u < kParts; u++) k[u] += fma(cij, with_i[u], cj * gv[u]);
      }
    };
    if (!kGradX || first_j) {
      for (int v = 0; v < vectors; v++) body(v, true);
    } else {
      for (int v = 0; v < vectors; v++) body(v, false);
    }
    if (kGradX && (step.flags & kLast)) {
      for (int v = 0; v < vectors; v++) Rows::write(gj + v * Rows::kStride, carry + v * kParts, streaming);
    }
    Sum total[4];  // of g, g·x_i, g·x_j, g·x_i·x_j
    sum_lanes(s, total);
    give_table_gradient(total, step, grad_table);
  }
  if (kGradX && streaming) stream_fence();
}

template <typename S>
void pack_rows(const char* sums, int64_t sums_pitch, int64_t rows, char* out, int64_t out_pitch, const Tile& tile) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  for (int64_t r = 0; r < rows; r++) {
    for (int v = 0; v < tile.lines * kLineVectors; v++) {
      Vec sum[St::kParts];
      for (int u = 0; u < St::kParts; u++) {
        sum[u] = load<Vec>(sums + r * sums_pitch + (v * St::kParts + u) * kVectorBytes);
      }
      store(out + r * out_pitch + tile.offset + v * kVectorBytes, St::pack(sum));
    }
  }
}

template <typename S>
void add_row(const char* from, char* to, bool wide, const Tile& tile) {
  typedef Storage<S> St;
  typedef typename St::Vec Vec;
  if (!wide) from += tile.offset, to += tile.offset;
  for (int v = 0; v < tile.lines * kLineVectors * (wide ? St::kParts : 1); v++) {
    char* p = to + v * kVectorBytes;
    const char* q = from + v * kVectorBytes;
    if (wide) {
      store(p, load<Vec>(p) + load<Vec>(q));
      continue;
    }
    Vec a[St::kParts], b[St::kParts];
    St::unpack(p, a);
    St::unpack(q, b);
    for (int u = 0; u < St::kParts; u++) a[u] += b[u];
    store(p, St::pack(a));
  }
}

// From sums of g, g·a, g·b, g·a·b to the gradients of t00, t01, t10, t11.
template <typename Sum>
void table_gradient(const void* sums, int64_t parts, int64_t gates, int64_t begin, int64_t end, void* out) {
  for (int64_t k = begin; k < end; k++) {
    Sum s[4] = {};
    for (int64_t part = 0; part < parts; part++) {
      for (int q = 0; q < 4; q++) s[q] += static_cast<const Sum*>(sums)[4 * (part * gates + k) + q];
    }
    Sum* t = static_cast<Sum*>(out) + 4 * k;
    t[0] = s[0] - s[1] - s[2] + s[3];
    t[1] = s[2] - s[3];
    t[2] = s[1] - s[3];
    t[3] = s[3];
  }
}

template <typename S>
void forward(const char* x, int64_t x_pitch, const void* table, const Step* steps, int64_t begin, int64_t end, char* y,
             int64_t y_pitch, const Tile& tile, bool streaming) {
  for_lines<S>(tile.lines,
               [&](auto n) { forward_lines<S, n>(x, x_pitch, table, steps, begin, end, y, y_pitch, tile, streaming); });
}

template <typename S, bool kGradX, bool kGrouped, bool kWide>
void backward_any(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group,
                  const void* table, const Step* steps, int64_t count, const GradRows& grad_x,
                  const TableRows& grad_table, const Tile& tile, bool streaming) {
  const auto run = [&](auto n) {
    backward_lines<S, n, kGradX, kGrouped, kWide>(x, x_pitch, grad, grad_pitch, group, table, steps, count, grad_x,
                                                  grad_table, tile, streaming);
  };
  if constexpr (kWide) {
    run(std::integral_constant<int, 0>{});
  } else {
    for_lines<S>(tile.lines, run);
  }
}

template <typename S>
void backward(const char* x, int64_t x_pitch, const char* grad, int64_t grad_pitch, int64_t group, const void* table,
              const Step* steps, int64_t count, const GradRows& grad_x, const TableRows& grad_table, const Tile& tile,
              bool streaming) {
#define LGN_CALL(...)                                                                                              \
  backward_any<S, __VA_ARGS__>(x, x_pitch, grad, grad_pitch, group, table, steps, count, grad_x, grad_table, tile, \
                               streaming)
  if (grad_x.data == nullptr) return group ? LGN_CALL(false, true, false) : LGN_CALL(false, false, false);
  if constexpr (Storage<S>::kParts > 1) {
    if (grad_x.wide) return group ? LGN_CALL(true, true, true) : LGN_CALL(true, false, true);
  }
  return group ? LGN_CALL(true, true, false) : LGN_CALL(true, false, false);
#undef LGN_CALL
}

template <typename S>
constexpr DenseKernels dense_kernels() {
  typedef typename Storage<S>::Sum Sum;
  DenseKernels k{};
  k.element_bytes = sizeof(S);
  k.sum_bytes = sizeof(Sum);
  k.slot = &Storage<S>::slot;
  k.forward = &forward<S>;
  k.backward = &backward<S>;
  k.add_row = &add_row<S>;
  k.pack_rows = &pack_rows<S>;
  k.group_forward = &group_forward<S>;
  k.group_rows = &group_rows<S>;
  k.table_gradient = &table_gradient<Sum>;
  return k;
}

}  // namespace
}  // namespace lgn
