// The kernels of the convolution with trees of gates, against plain loops.
#include <algorithm>
#include <vector>

#include "driver.h"
#include "isa.h"

namespace {

using namespace lgn;

struct Problem {
  int64_t batch, channels, height, width, trees, depth, kernel, stride, padding, pool;
};

// One tree at one place of one sample: the values of its nodes, leaves first.
template <typename Leaf, typename Table>
std::vector<double> nodes_of(int64_t leaves, const Leaf& leaf, const Table& table) {
  std::vector<double> n;
  for (int64_t l = 0; l < leaves; l++) n.push_back(leaf(l));
  for (int64_t j = 0; j < leaves - 1; j++) {
    const double a = n[static_cast<size_t>(2 * j)], b = n[static_cast<size_t>(2 * j + 1)];
    n.push_back(table(j, 0) * (1 - a) * (1 - b) + table(j, 1) * (1 - a) * b + table(j, 2) * a * (1 - b) +
                table(j, 3) * a * b);
  }
  return n;
}

template <typename S, typename Sum>
void run_tree(const LayerKernels& k, const Problem& q, double tolerance) {
  const int64_t leaves = int64_t{1} << q.depth, gates = q.trees * (leaves - 1), element = sizeof(S);
  std::vector<int32_t> leaf(static_cast<size_t>(3 * q.trees * leaves));
  for (size_t l = 0; l < leaf.size(); l++) {
    leaf[l] = below(l < static_cast<size_t>(q.trees * leaves) ? q.channels : q.kernel);
  }
  const int64_t out_h = ((q.height + 2 * q.padding - q.kernel) / q.stride + 1) / q.pool;
  const int64_t out_w = ((q.width + 2 * q.padding - q.kernel) / q.stride + 1) / q.pool;
  constexpr int64_t kCandidates = 3;
  std::vector<int32_t> candidate(leaf.size() * kCandidates);
  for (size_t l = 0; l < candidate.size(); l++) {
    candidate[l] = below(l < candidate.size() / 3 ? q.channels : q.kernel);
  }
  TreeShape shape{q.channels, q.height, q.width,   q.trees,   leaves, out_h,  out_w,
                  q.stride,   q.stride, q.padding, q.padding, q.pool, q.pool, leaf.data()};
  const int64_t pitch = (q.batch * element + 63) / 64 * 64, lines = pitch / 64, per_line = 64 / element;
  const int64_t byte_pitch = (q.batch + 63) / 64 * 64, outs = shape.out_rows(), ins = shape.in_rows();
  Buffer x(ins * pitch), y(outs * pitch), grad(outs * pitch), won(outs * byte_pitch), grad_x(ins * pitch);
  const auto at = [&](const Buffer& rows, int64_t row, int64_t sample) -> S& {
    return *reinterpret_cast<S*>(rows.data + row * pitch + sample * element);
  };
  for (int64_t s = 0; s < q.batch; s++) {
    for (int64_t i = 0; i < ins; i++) set(at(x, i, s), uniform());
    for (int64_t o = 0; o < outs; o++) set(at(grad, o, s), uniform() - 0.5);
  }
  std::vector<Sum> table(static_cast<size_t>(gates) * 4), sums(table.size(), 0), unwanted(table.size(), 0);
  std::vector<Sum> grad_table(table.size());
  for (auto& entry : table) entry = static_cast<Sum>(uniform());
  auto* winner = q.pool > 1 ? reinterpret_cast<uint8_t*>(won.data) : nullptr;
  const TreeForward forward{shape, x.data, pitch, table.data(), y.data, pitch, winner, byte_pitch};
  const TreeBackward backward{shape, x.data, pitch, grad.data, pitch, winner, byte_pitch, table.data(), table.data()};
  TreeBackward learned = backward;
  learned.shape.candidates = kCandidates;
  learned.shape.candidate = candidate.data();
  std::vector<Sum> shares(static_cast<size_t>(q.trees * leaves * kCandidates), 0), shares_alone(shares), third(sums);
  Buffer scratch(k.tree.scratch_bytes(learned.shape));
  const int64_t wide = kTreeLines * 64 * k.sum_bytes / element;
  for (int64_t line = 0; line < lines; line += kTreeLines) {
    const int count = static_cast<int>(std::min<int64_t>(kTreeLines, lines - line));
    const Tile tile{line * 64, count, std::min(count * per_line, q.batch - line * per_line)};
    k.tree.forward(forward, tile, 0, q.trees / 2, scratch.data);
    k.tree.forward(forward, tile, q.trees / 2, q.trees, scratch.data);
    Buffer rows(ins * wide);
    std::memset(rows.data, 0, static_cast<size_t>(ins * wide));
    k.tree.backward(backward, tile, 0, q.trees, rows.data, wide, sums.data(), nullptr, scratch.data);
    k.pack_rows(rows.data, wide, ins, grad_x.data, pitch, tile);
    k.tree.backward(backward, tile, 0, q.trees, nullptr, 0, unwanted.data(), nullptr, scratch.data);
    k.tree.backward(learned, tile, 0, q.trees, rows.data, wide, third.data(), shares.data(), scratch.data);
    k.tree.backward(learned, tile, 0, q.trees, nullptr, 0, third.data(), shares_alone.data(), scratch.data);
  }
  if (shares != shares_alone) check(1, 0, 0, "tree: shares without the gradient of x");
  if (sums != unwanted) check(1, 0, 0, "tree: sums without the gradient of x");
  k.table_gradient(sums.data(), 1, gates, 0, gates, grad_table.data());

  std::vector<double> expected_x(static_cast<size_t>(ins * q.batch), 0), expected_table(table.size(), 0);
  std::vector<double> expected_shares(shares.size(), 0);
  for (int64_t s = 0; s < q.batch; s++) {
    for (int64_t out = 0; out < outs; out++) {
      const int64_t tree = out / (out_h * out_w), window = out % (out_h * out_w);
      const auto t = [&](int64_t j, int64_t entry) {
        return static_cast<double>(table[static_cast<size_t>(4 * (tree * (leaves - 1) + j) + entry)]);
      };
      const auto row_of = [&](const std::vector<int32_t>& places, int64_t p, int64_t l) -> int64_t {
        const size_t part = places.size() / 3, own = static_cast<size_t>(l);
        const int64_t line = (window / out_w * q.pool + p / q.pool) * q.stride - q.padding + places[part + own];
        const int64_t column = (window % out_w * q.pool + p % q.pool) * q.stride - q.padding + places[2 * part + own];
        const bool inside = line >= 0 && line < q.height && column >= 0 && column < q.width;
        return inside ? (places[own] * q.height + line) * q.width + column : -1;  // -1 outside the image
      };
      const auto row = [&](int64_t p, int64_t l) { return row_of(leaf, p, tree * leaves + l); };
      const auto nodes_at = [&](int64_t p) {
        return nodes_of(leaves, [&](int64_t l) { return row(p, l) < 0 ? 0.0 : get(at(x, row(p, l), s)); }, t);
      };
      double best = -1;
      for (int64_t p = 0; p < q.pool * q.pool; p++) best = std::max(best, nodes_at(p).back());
      check(get(at(y, out, s)), best, tolerance, "tree: forward");
      // Near ties may be decided either way: whoever won must be one of them.
      const int64_t from = winner == nullptr ? 0 : winner[out * byte_pitch + s];
      const std::vector<double> n = nodes_at(from);
      check(n.back(), best, tolerance, "tree: winner");
      std::vector<double> g(n.size(), 0);
      g.back() = get(at(grad, out, s));
      for (int64_t j = leaves - 2; j >= 0; j--) {
        const size_t left = static_cast<size_t>(2 * j), right = left + 1;
        const double up = g[static_cast<size_t>(leaves + j)], a = n[left], b = n[right];
        double* e = expected_table.data() + 4 * (tree * (leaves - 1) + j);
        e[0] += up * (1 - a) * (1 - b);
        e[1] += up * (1 - a) * b;
        e[2] += up * a * (1 - b);
        e[3] += up * a * b;
        g[left] += up * ((t(j, 2) - t(j, 0)) * (1 - b) + (t(j, 3) - t(j, 1)) * b);
        g[right] += up * ((t(j, 1) - t(j, 0)) * (1 - a) + (t(j, 3) - t(j, 2)) * a);
      }
      for (int64_t l = 0; l < leaves; l++) {
        for (int64_t c = 0; c < kCandidates; c++) {
          const int64_t place = (tree * leaves + l) * kCandidates + c, read = row_of(candidate, from, place);
          if (read >= 0) {
            expected_shares[static_cast<size_t>(place)] += g[static_cast<size_t>(l)] * get(at(x, read, s));
          }
        }
        if (row(from, l) >= 0) expected_x[static_cast<size_t>(row(from, l) * q.batch + s)] += g[static_cast<size_t>(l)];
      }
    }
  }
  for (size_t e = 0; e < expected_table.size(); e++) {
    check(static_cast<double>(grad_table[e]), expected_table[e], 1e-4, "tree: table gradient");
  }
  for (size_t e = 0; e < shares.size(); e++) {
    check(static_cast<double>(shares[e]), expected_shares[e], 1e-4, "tree: gradient of a candidate");
  }
  for (int64_t i = 0; i < ins; i++) {
    for (int64_t s = 0; s < q.batch; s++) {
      check(get(at(grad_x, i, s)), expected_x[static_cast<size_t>(i * q.batch + s)], 10 * tolerance,
            "tree: gradient of x");
    }
  }
}

}  // namespace

void run_trees() {
  for (const int64_t batch : {1, 17, 64, 100, 130}) {
    for (const Problem& q : {Problem{batch, 2, 6, 7, 3, 3, 3, 1, 0, 1}, Problem{batch, 3, 4, 4, 5, 3, 3, 1, 1, 2},
                             Problem{batch, 1, 5, 5, 2, 1, 2, 1, 0, 2}, Problem{batch, 2, 7, 7, 2, 2, 3, 2, 1, 2},
                             Problem{batch, 2, 5, 4, 2, 5, 3, 1, 2, 1}, Problem{batch, 1, 3, 3, 2, 4, 1, 1, 0, 3}}) {
      run_tree<float, float>(kernels().f32, q, 1e-5);
      run_tree<Bf16Bits, float>(kernels().bf16, q, 2e-2);
      run_tree<double, double>(kernels_f64(), q, 1e-12);
    }
  }
}
