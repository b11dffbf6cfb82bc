// Learned leaves of trees on packed samples: the gradients of their candidates' shares, see choices.h.
//
// A window reads every candidate at all of its positions, so its address must cost next to nothing: the bits of a tile
// are copied, one word a row, to images with a border of zeros, where a candidate is at its own offset plus that of the
// position, and nothing has to be asked. Where which position won is known, the words of a window are one: what the
// candidate reads at the winner of each sample.
#pragma once

#include "bits_lanes.h"
#include "bits_simd.h"
#include "tree_workspace.h"

namespace lgn {
namespace {

struct BitTreeChoices {
  static constexpr int kBlock = 8;  // candidates side by side, whose sums do not wait for one another

  int64_t height, width, count;  // of the image with its border, and all candidates of a tree
  uint64_t* image;               // [channels][height][width]
  int64_t* row;                  // [count]
  int64_t* shift;                // [pool] from the first position of a window to the others
  uint64_t* won;                 // [pool] the samples whose winner is there
  uint64_t* word;                // [count]
  VecF* sums;                    // [count], of whole fours

  void take_memory(const TreeShape& shape, CutLines& take) {
    height = shape.height + 2 * shape.pad_h, width = shape.width + 2 * shape.pad_w, count = shape.choices();
    if (count == 0) return;
    take(image, shape.channels * height * width);
    take(row, count);
    take(shift, shape.pool());
    take(won, shape.pool());
    take(word, count);
    take(sums, (count + 3) / 4 * 4);
  }

  // `x` are the bits of the tile.
  void read_image(const TreeShape& shape, const uint8_t* x, int64_t x_pitch) {
    std::memset(image, 0, static_cast<size_t>(shape.channels * height * width) * sizeof(uint64_t));
    for (int64_t line = 0; line < shape.channels * shape.height; line++) {
      const int64_t channel = line / shape.height, y = line % shape.height + shape.pad_h;
      uint64_t* to = image + (channel * height + y) * width + shape.pad_w;
      for (int64_t k = 0; k < shape.width; k++) to[k] = load_word(x + (line * shape.width + k) * x_pitch);
    }
    for (int64_t p = 0; p < shape.pool(); p++) {
      shift[p] = p / shape.pool_w * shape.stride_h * width + p % shape.pool_w * shape.stride_w;
    }
  }

  void read_tree(const TreeShape& shape, int64_t tree) {
    const int64_t part = shape.trees * count;
    const int32_t* place = shape.candidate + tree * count;
    for (int64_t c = 0; c < count; c++) {
      row[c] = (place[c] * height + place[part + c]) * width + place[2 * part + c];
    }
    for (int64_t c = 0; c < (count + 3) / 4 * 4; c++) sums[c] = VecF{};
  }

  // What all candidates read at the winners of the window whose first position is at `place`.
  void gather(const TreeShape& shape, const uint64_t* place) const {
    for (int64_t c = 0; c < count; c++) {
      const uint64_t* from = place + row[c];
      uint64_t bits = 0;
      for (int64_t p = 0; p < shape.pool(); p++) bits |= won[p] & from[shift[p]];
      word[c] = bits;
    }
  }

  // The same of the usual window, 2x2 at steps of 1, whose lines are two words side by side. What is read comes before
  // the loop: the words that are written could be anything here, as far as a compiler knows.
  void gather_pairs(const uint64_t* place) const {
    typedef uint64_t Pair __attribute__((vector_size(16)));
    const Pair upper = load<Pair>(won), lower = load<Pair>(won + 2);
    const int64_t below = shift[2], end = count;
    const int64_t* rows = row;
    uint64_t* to = word;
    for (int64_t c = 0; c < end; c++) {
      const uint64_t* from = place + rows[c];
      const Pair both = (load<Pair>(from) & upper) | (load<Pair>(from + below) & lower);
      to[c] = both[0] | both[1];
    }
  }

  // Adds to the sums of all candidates the gradient of their leaf, `grad(l)`, where they read a 1, in the window at
  // line `top`, column `side` of the output.
  template <int kLines, typename Grad>
  LGN_INLINE void add(const TreeShape& shape, int64_t top, int64_t side, int lines, const Grad& grad) const {
    const int vectors = (kLines ? kLines : lines) * kLineVectors;
    const uint64_t* place = image + top * shape.pool_h * shape.stride_h * width + side * shape.pool_w * shape.stride_w;
    shape.pool_h == 2 && shape.pool_w == 2 && shape.stride_w == 1 ? gather_pairs(place) : gather(shape, place);
    const auto bits = [&](int64_t c) { return reinterpret_cast<const uint8_t*>(word + c); };
    int64_t c = 0;
    for (int leaf = 0; leaf < static_cast<int>(shape.leaves); leaf++) {
      const int64_t end = c + shape.candidates;
      const char* from = grad(leaf);
      for (; c + kBlock <= end; c += kBlock) {
        VecF s[kBlock];
        for (int q = 0; q < kBlock; q++) s[q] = sums[c + q];
        for (int v = 0; v < vectors; v++) {
          const VecF g = load<VecF>(from + v * kVectorBytes);
          for (int q = 0; q < kBlock; q++) s[q] = add_where(s[q], lane_mask(bits(c + q), v), g);
        }
        for (int q = 0; q < kBlock; q++) sums[c + q] = s[q];
      }
      for (; c < end; c++) {
        VecF s = sums[c];
        for (int v = 0; v < vectors; v++) {
          s = add_where(s, lane_mask(bits(c), v), load<VecF>(from + v * kVectorBytes));
        }
        sums[c] = s;
      }
    }
  }

  void add_sums(float* to) const {
    for (int64_t first = 0; first < count; first += 4) {
      const VecF lanes[4] = {sums[first], sums[first + 1], sums[first + 2], sums[first + 3]};
      float total[4];
      sum_lanes(lanes, total);
      for (int64_t q = 0; q < 4 && first + q < count; q++) to[first + q] += total[q];
    }
  }
};

}  // namespace
}  // namespace lgn
