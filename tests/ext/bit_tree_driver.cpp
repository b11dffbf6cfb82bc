// The kernels of the straight-through convolution on packed samples, against plain loops.
#include <algorithm>
#include <vector>

#include "driver.h"
#include "kernels.h"

namespace {

using namespace lgn;

struct Problem {
  int64_t batch, channels, height, width, trees, depth, kernel, stride, padding, pool, candidates;
};

void run_bit_tree(const Problem& q) {
  const BitTreeKernels& k = kernels().bit_tree;
  const int64_t leaves = int64_t{1} << q.depth, gates = q.trees * (leaves - 1);
  std::vector<int32_t> leaf(static_cast<size_t>(3 * q.trees * leaves));
  for (size_t l = 0; l < leaf.size(); l++) {
    leaf[l] = below(l < static_cast<size_t>(q.trees * leaves) ? q.channels : q.kernel);
  }
  const int64_t out_h = ((q.height + 2 * q.padding - q.kernel) / q.stride + 1) / q.pool;
  const int64_t out_w = ((q.width + 2 * q.padding - q.kernel) / q.stride + 1) / q.pool;
  std::vector<int32_t> candidate(leaf.size() * static_cast<size_t>(q.candidates));
  for (size_t c = 0; c < candidate.size(); c++) {
    candidate[c] = below(c < candidate.size() / 3 ? q.channels : q.kernel);
  }
  const TreeShape shape{q.channels, q.height, q.width,   q.trees,   leaves, out_h,  out_w,
                        q.stride,   q.stride, q.padding, q.padding, q.pool, q.pool, leaf.data()};
  TreeShape learned = shape;
  learned.candidates = q.candidates;
  learned.candidate = candidate.data();
  const int64_t outs = shape.out_rows(), ins = shape.in_rows(), digits = shape.winner_digits();
  const int64_t bit_pitch = (q.batch + 127) / 128 * kBitRowBytes, pitch = (q.batch + 15) / 16 * kLineBytes;
  typedef std::vector<uint8_t> Bits;  // of exactly as many bytes
  const auto bits = [&](int64_t rows) { return Bits(static_cast<size_t>(rows * bit_pitch), 0xff); };
  Bits x = bits(ins), y = bits(outs), won = bits(digits * outs);
  Buffer grad(outs * pitch), grad_x(ins * pitch), scratch(k.scratch_bytes(learned));
  const auto bit = [&](const Bits& rows, int64_t row, int64_t s) -> int {
    return rows[static_cast<size_t>(row * bit_pitch + s / 8)] >> (s % 8) & 1;
  };
  const auto number = [&](const Buffer& rows, int64_t row, int64_t s) -> float& {
    return reinterpret_cast<float*>(rows.data + row * pitch)[s];
  };
  for (auto& byte : x) byte = static_cast<uint8_t>(below(256));
  for (int64_t o = 0; o < outs; o++) {
    for (int64_t s = 0; s < q.batch; s++) number(grad, o, s) = static_cast<float>(uniform() - 0.5);
  }
  Bits ids(static_cast<size_t>(gates));
  for (auto& id : ids) id = static_cast<uint8_t>(below(16));
  std::vector<float> table(ids.size() * 4), sums(table.size(), 0), alone(table.size(), 0), grad_table(table.size()),
      of_learned(table.size(), 0), shares(candidate.size() / 3, 0);
  for (auto& entry : table) entry = static_cast<float>(uniform());

  const BitTreeForward forward{shape, x.data(), bit_pitch, ids.data(), y.data(), won.data(), bit_pitch};
  k.forward(forward, 0, q.trees / 2, scratch.data);
  k.forward(forward, q.trees / 2, q.trees, scratch.data);
  const BitTreeBackward backward{shape,     x.data(),  bit_pitch, ids.data(),  won.data(),
                                 bit_pitch, grad.data, pitch,     table.data()};
  BitTreeBackward of_shares = backward;
  of_shares.shape = learned;
  Buffer again(ins * pitch);
  std::memset(grad_x.data, 0, static_cast<size_t>(ins * pitch));
  std::memset(again.data, 0, static_cast<size_t>(ins * pitch));
  for (int64_t line = 0; line < pitch / kLineBytes; line += kTreeLines) {
    const int64_t lines = std::min<int64_t>(kTreeLines, pitch / kLineBytes - line);
    const Tile tile{line * kLineBytes, static_cast<int>(lines), std::min(lines * 16, q.batch - line * 16)};
    k.backward(backward, tile, 0, q.trees, grad_x.data + tile.offset, pitch, sums.data(), nullptr, scratch.data);
    k.backward(backward, tile, 0, q.trees, nullptr, 0, alone.data(), nullptr, scratch.data);
    k.backward(of_shares, tile, 0, q.trees, again.data + tile.offset, pitch, of_learned.data(), shares.data(),
               scratch.data);
  }
  if (sums != alone) check(1, 0, 0, "bit tree: sums without the gradient of x");
  if (sums != of_learned) check(1, 0, 0, "bit tree: sums with learned leaves");
  if (std::memcmp(grad_x.data, again.data, static_cast<size_t>(ins * pitch)) != 0) {
    check(1, 0, 0, "bit tree: gradient of x with learned leaves");
  }
  kernels().f32.table_gradient(sums.data(), 1, gates, 0, gates, grad_table.data());

  std::vector<double> expected_x(static_cast<size_t>(ins * q.batch), 0), expected_table(table.size(), 0),
      expected_shares(shares.size(), 0);
  for (int64_t s = 0; s < q.batch; s++) {
    for (int64_t out = 0; out < outs; out++) {
      const int64_t tree = out / (out_h * out_w), window = out % (out_h * out_w);
      const auto row_of = [&](const std::vector<int32_t>& places, int64_t p, size_t own) -> int64_t {
        const size_t part = places.size() / 3;
        const int64_t line = (window / out_w * q.pool + p / q.pool) * q.stride - q.padding + places[part + own];
        const int64_t column = (window % out_w * q.pool + p % q.pool) * q.stride - q.padding + places[2 * part + own];
        const bool inside = line >= 0 && line < q.height && column >= 0 && column < q.width;
        return inside ? (places[own] * q.height + line) * q.width + column : -1;  // -1 outside the image
      };
      const auto row = [&](int64_t p, int64_t l) { return row_of(leaf, p, static_cast<size_t>(tree * leaves + l)); };
      const auto nodes_at = [&](int64_t p) {
        std::vector<int> n;
        for (int64_t l = 0; l < leaves; l++) n.push_back(row(p, l) < 0 ? 0 : bit(x, row(p, l), s));
        for (size_t j = 0; j < static_cast<size_t>(leaves - 1); j++) {
          const int id = ids[static_cast<size_t>(tree * (leaves - 1)) + j];
          n.push_back(id >> (3 - 2 * n[2 * j] - n[2 * j + 1]) & 1);
        }
        return n;
      };
      int64_t from = 0;
      while (from < q.pool * q.pool - 1 && nodes_at(from).back() == 0) from++;
      const bool any = nodes_at(from).back() == 1;
      if (!any) from = 0;
      check(bit(y, out, s), any, 0, "bit tree: forward");
      int64_t winner = 0;
      for (int64_t d = 0; d < digits; d++) winner |= static_cast<int64_t>(bit(won, d * outs + out, s)) << d;
      check(static_cast<double>(winner), static_cast<double>(from), 0, "bit tree: winner");
      const std::vector<int> n = nodes_at(from);
      std::vector<double> g(n.size(), 0);
      g.back() = number(grad, out, s);
      for (int64_t j = leaves - 2; j >= 0; j--) {
        const size_t left = static_cast<size_t>(2 * j), right = left + 1;
        const double up = g[static_cast<size_t>(leaves + j)];
        const size_t first = static_cast<size_t>(4 * (tree * (leaves - 1) + j));
        const float* t = table.data() + first;
        expected_table[first + static_cast<size_t>(2 * n[left] + n[right])] += up;
        g[left] += up * (n[right] ? t[3] - t[1] : t[2] - t[0]);
        g[right] += up * (n[left] ? t[3] - t[2] : t[1] - t[0]);
      }
      for (int64_t c = 0; c < learned.choices(); c++) {
        const size_t own = static_cast<size_t>(tree * learned.choices() + c);
        const int64_t at = row_of(candidate, from, own);
        if (at >= 0 && bit(x, at, s)) expected_shares[own] += g[static_cast<size_t>(c / q.candidates)];
      }
      for (int64_t l = 0; l < leaves; l++) {
        if (row(from, l) >= 0) expected_x[static_cast<size_t>(row(from, l) * q.batch + s)] += g[static_cast<size_t>(l)];
      }
    }
  }
  for (size_t e = 0; e < expected_table.size(); e++) {
    check(static_cast<double>(grad_table[e]), expected_table[e], 1e-4, "bit tree: table gradient");
  }
  for (size_t c = 0; c < shares.size(); c++) {
    check(static_cast<double>(shares[c]), expected_shares[c], 1e-4, "bit tree: gradient of shares");
  }
  for (int64_t i = 0; i < ins; i++) {
    for (int64_t s = 0; s < q.batch; s++) {
      check(number(grad_x, i, s), expected_x[static_cast<size_t>(i * q.batch + s)], 1e-4, "bit tree: gradient of x");
    }
  }
}

}  // namespace

void run_bit_trees() {
  for (const Problem& q : {Problem{1, 1, 4, 4, 1, 1, 1, 1, 0, 1, 1}, Problem{70, 3, 6, 6, 5, 3, 3, 1, 1, 2, 8},
                           Problem{128, 2, 7, 7, 3, 3, 3, 2, 1, 2, 19}, Problem{200, 2, 6, 6, 2, 4, 3, 1, 0, 2, 5},
                           Problem{65, 2, 7, 7, 2, 2, 2, 1, 1, 2, 9}, Problem{300, 1, 18, 18, 1, 3, 3, 1, 0, 16, 3}}) {
    run_bit_tree(q);
  }
}
