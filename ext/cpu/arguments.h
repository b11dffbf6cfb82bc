// What the tensors of every op must be, checked before anything reads them: here for the CPU and for CUDA, and by
// lgn_lightning/ops/arguments.py, which reads the same lines, for the references.
//
// An argument has a name, a dtype and sizes; equal letters are equal sizes. One with `?` may be missing, one with `*`
// empty.
//   real: floating point                     sum: what the real argument before it is summed in, float32 or float64
//   bits: bool or real                       words: int8 … int64
//   float, int, long, byte, bool: float32, int32, int64, uint8, bool
// All are dense and on one device. What else an op needs (divisors, ranges) it checks with the functions below.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace lgn {

class Arguments {
 public:
  Arguments(const char* op, const char* text) : op_(op) {
    std::istringstream lines(text);
    std::vector<std::string> letters;
    for (std::string line; std::getline(lines, line, ';');) {
      for (char& c : line) c = c == ':' || c == ',' || c == '[' || c == ']' ? ' ' : c;
      std::istringstream words(line);
      Argument argument;
      words >> argument.name >> argument.dtype_name;
      argument.may_miss = argument.name.back() == '?';
      argument.may_be_empty = argument.name.back() == '*';
      if (argument.may_miss || argument.may_be_empty) argument.name.pop_back();
      argument.dtype = dtype_of(argument.dtype_name);
      for (std::string size; words >> size; argument.sizes.push_back(size)) {
        size_t letter = 0;
        while (letter < letters.size() && letters[letter] != size) letter++;
        if (letter == letters.size()) letters.push_back(size);
        const bool number = size[0] >= '0' && size[0] <= '9';
        argument.wanted.push_back(number ? std::stoll(size) : -1 - static_cast<int64_t>(letter));
      }
      arguments_.push_back(std::move(argument));
    }
    TORCH_CHECK(letters.size() <= kLetters, op, " has too many sizes");
  }

  // Throws unless the tensors are what they must be; missing ones are undefined or nullopt.
  template <typename... Tensors>
  void operator()(const Tensors&... tensors) const {
    check({pointer(tensors)...});
  }

 private:
  static constexpr size_t kLetters = 16;
  enum class Dtype { kReal, kSum, kBits, kWords, kOne };
  struct Argument {
    std::string name, dtype_name;
    std::pair<Dtype, at::ScalarType> dtype;
    bool may_miss = false, may_be_empty = false;
    std::vector<std::string> sizes;
    std::vector<int64_t> wanted;  // a size, or -1 - the number of a letter
  };

  static const at::Tensor* pointer(const at::Tensor& tensor) { return tensor.defined() ? &tensor : nullptr; }
  static const at::Tensor* pointer(const std::optional<at::Tensor>& tensor) {
    return tensor ? pointer(*tensor) : nullptr;
  }
  static std::pair<Dtype, at::ScalarType> dtype_of(const std::string& name) {
    if (name == "real") return {Dtype::kReal, at::kFloat};
    if (name == "sum") return {Dtype::kSum, at::kFloat};
    if (name == "bits") return {Dtype::kBits, at::kBool};
    if (name == "words") return {Dtype::kWords, at::kLong};
    if (name == "float") return {Dtype::kOne, at::kFloat};
    if (name == "int") return {Dtype::kOne, at::kInt};
    if (name == "long") return {Dtype::kOne, at::kLong};
    if (name == "byte") return {Dtype::kOne, at::kByte};
    TORCH_CHECK(name == "bool", name, " is no dtype of an argument");
    return {Dtype::kOne, at::kBool};
  }
  static bool is_real(at::ScalarType dtype) {
    return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16;
  }
  static bool fits(const std::pair<Dtype, at::ScalarType>& wanted, at::ScalarType dtype, at::ScalarType real) {
    switch (wanted.first) {
      case Dtype::kReal:
        return is_real(dtype);
      case Dtype::kSum:
        return dtype == (real == at::kDouble ? at::kDouble : at::kFloat);
      case Dtype::kBits:
        return dtype == at::kBool || is_real(dtype);
      case Dtype::kWords:
        return dtype == at::kChar || dtype == at::kShort || dtype == at::kInt || dtype == at::kLong;
      default:
        return dtype == wanted.second;
    }
  }

  void check(std::initializer_list<const at::Tensor*> tensors) const {
    std::array<int64_t, kLetters> sizes;
    sizes.fill(-1);
    at::ScalarType real = at::kFloat;
    const at::Tensor* const* next = tensors.begin();
    for (const Argument& argument : arguments_) {
      const at::Tensor* t = *next++;
      if (t == nullptr ? argument.may_miss : argument.may_be_empty && t->numel() == 0) continue;
      TORCH_CHECK_TYPE(t != nullptr && t->layout() == at::kStrided, op_, ": ", argument.name, " is no dense tensor");
      const at::Tensor& first = **tensors.begin();
      TORCH_CHECK(t->device() == first.device(), op_, ": ", arguments_[0].name, " is on ", first.device(), ", but ",
                  argument.name, " is on ", t->device(), "; move the module and its input to one device");
      const at::ScalarType dtype = t->scalar_type();
      TORCH_CHECK_TYPE(fits(argument.dtype, dtype, real), op_, ": ", argument.name, " is ", dtype, ", but must be ",
                       argument.dtype_name);
      if (argument.dtype.first == Dtype::kReal) real = dtype;
      bool fit = t->dim() == static_cast<int64_t>(argument.wanted.size());
      for (size_t d = 0; fit && d < argument.wanted.size(); d++) {
        const int64_t size = t->sizes()[d], wanted = argument.wanted[d];
        int64_t& known = sizes[wanted < 0 ? static_cast<size_t>(-1 - wanted) : 0];
        fit = wanted >= 0 ? size == wanted : known < 0 || size == known;
        if (wanted < 0 && known < 0) known = size;
      }
      TORCH_CHECK_VALUE(fit, op_, ": ", argument.name, " has shape ", t->sizes(), ", but must be ",
                        described(argument, sizes));
    }
  }

  // The sizes in letters, and those that are known in numbers.
  static std::string described(const Argument& argument, const std::array<int64_t, kLetters>& sizes) {
    std::string shape, known;
    for (size_t d = 0; d < argument.wanted.size(); d++) {
      const int64_t wanted = argument.wanted[d];
      const int64_t size = wanted < 0 ? sizes[static_cast<size_t>(-1 - wanted)] : -1;
      shape += (d > 0 ? ", " : "") + argument.sizes[d];
      if (size >= 0) known += ", " + argument.sizes[d] + " = " + std::to_string(size);
    }
    return "[" + shape + "]" + known;
  }

  const std::string op_;
  std::vector<Argument> arguments_;
};

namespace arguments {

#define LGN_ARGUMENTS(op, text) inline const Arguments op(#op, text)
// clang-format off
LGN_ARGUMENTS(softmax_table, "logits: real [n, 16]");
LGN_ARGUMENTS(softmax_table_backward, "grad: real [n, 4]; logits: real [n, 16]");
LGN_ARGUMENTS(logic, "x: real [batch, in]; table: sum [n, 4]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(logic_backward, "grad: real [batch, n]; x: real [batch, in]; table: sum [n, 4]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(group_sum, "x: real [batch, n]");
LGN_ARGUMENTS(group_sum_backward, "grad: real [batch, k]");
LGN_ARGUMENTS(logic_stack, "x: real [batch, in]");
LGN_ARGUMENTS(logic_stack_layer, "x: real [batch, first]; given: sum [n, entries]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(logic_stack_backward, "grad: real [batch, k]; x: real [batch, in]");
LGN_ARGUMENTS(logic_group_sum, "x: real [batch, in]; table: sum [n, 4]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(logic_group_sum_backward, "grad: real [batch, k]; x: real [batch, in]; table: sum [n, 4]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(pack_bits, "x: bool [batch, n]");
LGN_ARGUMENTS(unpack_bits, "x: words [rows, n]");
LGN_ARGUMENTS(logic_packed, "x: words [rows, in]; gates: byte [n]; a: int [n]; b: int [n]");
LGN_ARGUMENTS(group_sum_packed, "x: words [rows, n]");
LGN_ARGUMENTS(round_to_bits, "x: bits [batch, C, H, W]");
LGN_ARGUMENTS(gate_ids, "logits: real [n, entries]");
LGN_ARGUMENTS(bit_logic, "x: bits [batch, in]; words?: long [rows, in]");
LGN_ARGUMENTS(bit_logic_layer, "words: long [rows, in]; gates: byte [n]; a: int [n]; b: int [n]; candidates*: int [n, 2, K]");
LGN_ARGUMENTS(bit_logic_backward, "grad: real [batch, k]");
LGN_ARGUMENTS(bit_logic_backward_layer, "grad: real [batch, k]; words: long [rows, in]; table: float [n, 4]; a: int [n]; b: int [n]; shares*: real [n, 2, K]; candidates*: int [n, 2, K]");
LGN_ARGUMENTS(bit_steps, "words: long [rows, steps, in]; initial?: real [state]; lengths?: long [batch]");
LGN_ARGUMENTS(bit_steps_backward, "grad: real [batch, reads, k]; inputs: long [rows, steps, in]; lengths?: long [batch]");
LGN_ARGUMENTS(choose, "logits: float [n, 2, K]; candidates: int [n, 2, K]; level*: float [n, 2]");
LGN_ARGUMENTS(choose_backward, "grad: float [n, 2, K]; shares: float [n, 2, K]");
LGN_ARGUMENTS(choices_backward, "grad: real [batch, n]; x: real [batch, in]; table: real [n, 4]; a: int [n]; b: int [n]; candidates: int [n, 2, K]");
LGN_ARGUMENTS(lut, "x: real [batch, in]; table: sum [n, entries]; indices: int [k, n]");
LGN_ARGUMENTS(lut_backward, "grad: real [batch, n]; x: real [batch, in]; table: sum [n, entries]; indices: int [k, n]");
LGN_ARGUMENTS(lut_packed, "x: words [rows, in]; ids: long [n]; indices: int [k, n]");
LGN_ARGUMENTS(lut_ids, "logits: real [n, entries]");
LGN_ARGUMENTS(logic_tree_conv, "x: real [batch, C, H, W]; table: sum [gates, 4]; soft_table?: sum [gates, 4]; leaves: int [3, O, leaves]");
LGN_ARGUMENTS(logic_tree_conv_backward, "grad: real [batch, O, rows, columns]; winner*: byte [batch, O, rows, columns]; x: real [batch, C, H, W]; table: sum [gates, 4]; soft_table?: sum [gates, 4]; leaves: int [3, O, leaves]");
LGN_ARGUMENTS(learned_tree_conv, "x: real [batch, C, H, W]; table: sum [gates, 4]; soft_table?: sum [gates, 4]; leaves: int [3, O, leaves]; candidates: int [O, leaves, K]");
LGN_ARGUMENTS(learned_tree_conv_backward, "grad: real [batch, O, rows, columns]; winner*: byte [batch, O, rows, columns]; x: real [batch, C, H, W]; table: sum [gates, 4]; soft_table?: sum [gates, 4]; leaves: int [3, O, leaves]; candidates: int [O, leaves, K]");
LGN_ARGUMENTS(bit_tree_conv, "words: long [words, C, H, W]; gates: byte [gates]; leaves: int [3, O, leaves]");
LGN_ARGUMENTS(bit_tree_conv_backward, "grad: real [batch, O, rows, columns]; winner: long [words, digits, O, rows, columns]; words: long [words, C, H, W]; gates: byte [gates]; soft_table: float [gates, 4]; leaves: int [3, O, leaves]");
LGN_ARGUMENTS(learned_bit_tree_conv_backward, "grad: real [batch, O, rows, columns]; winner: long [words, digits, O, rows, columns]; words: long [words, C, H, W]; gates: byte [gates]; soft_table: float [gates, 4]; leaves: int [3, O, leaves]; candidates: int [O, leaves, K]");
// clang-format on

}  // namespace arguments

inline void check_groups(int64_t features, int64_t k) {
  TORCH_CHECK_VALUE(k > 0 && features % k == 0, features, " features do not divide into k = ", k, " equal groups");
}

// Whether `words` hold just a batch: no fewer and no more of them.
inline void check_rows(const at::Tensor& words, int64_t batch) {
  const int64_t bits = 8 * static_cast<int64_t>(words.element_size()), rows = words.size(0);
  TORCH_CHECK_VALUE(batch >= 0 && batch <= rows * bits && batch > (rows - 1) * bits, rows, " rows of ", bits,
                    "-bit words do not hold a batch of ", batch);
}

inline void check_words(const at::Tensor& words, int64_t batch, int64_t features) {
  check_rows(words, batch);
  TORCH_CHECK_VALUE(words.size(1) == features, "words has shape ", words.sizes(), ", but must have ", features,
                    " columns");
}

inline void check_learns(const at::Tensor& shares, const at::Tensor& candidates) {
  TORCH_CHECK_VALUE(shares.numel() == 0 || candidates.numel() > 0, "there are shares, but no candidates");
}

inline void check_gate_logits(const at::Tensor& logits) {
  TORCH_CHECK_VALUE(logits.size(1) == 4 || logits.size(1) == 16, "logits has shape ", logits.sizes(),
                    ", but must be [n, 4] or [n, 16]");
}

// A gate has something to choose among, and a number to draw by for each of its inputs if there is noise.
inline void check_choice(const at::Tensor& logits, const at::Tensor& level, double noise) {
  TORCH_CHECK_VALUE(logits.size(0) == 0 || logits.size(2) > 0, "choose: there are no candidates");
  TORCH_CHECK_VALUE(!(noise > 0) || level.numel() == 2 * logits.size(0), "choose: level has shape ", level.sizes(),
                    ", but with noise must be [n, 2], n = ", logits.size(0));
}

// Of indices [k, n] and tables of `entries`.
inline void check_lut(const at::Tensor& indices, std::optional<int64_t> entries = std::nullopt) {
  const int64_t k = indices.size(0);
  TORCH_CHECK_VALUE(k >= 2 && k <= 6, "indices has shape ", indices.sizes(), ", but must be [k, n] with k from 2 to 6");
  TORCH_CHECK_VALUE(!entries || *entries == int64_t{1} << k, "tables of ", *entries, " entries do not fit ", k,
                    " inputs");
}
inline void check_lut_logits(const at::Tensor& logits) {
  const int64_t entries = logits.size(1);
  TORCH_CHECK_VALUE(entries >= 2 && entries <= 64 && (entries & (entries - 1)) == 0, "logits has shape ",
                    logits.sizes(), ", but must be [n, 2^k] with k from 1 to 6");
}

// As many of each as there are layers, and at least one.
inline void check_layers(std::initializer_list<size_t> counts) {
  for (const size_t count : counts) {
    TORCH_CHECK_VALUE(count > 0 && count == *counts.begin(),
                      "all lists must have one entry a layer, and at least one; there are ", count, " and ",
                      *counts.begin());
  }
}

// Of trees: [gates, …] and [3, O, leaves].
inline void check_tree_gates(const at::Tensor& of_gates, const at::Tensor& leaves) {
  const int64_t n = leaves.size(2);
  TORCH_CHECK_VALUE(n >= 2 && (n & (n - 1)) == 0, "leaves has shape ", leaves.sizes(), ", but must be [3, O, 2^depth]");
  TORCH_CHECK_VALUE(of_gates.size(0) == leaves.size(1) * (n - 1), "a table or gates of ", of_gates.size(0),
                    " rows do not fit leaves ", leaves.sizes());
}

inline void check_output(const at::Tensor& grad, int64_t height, int64_t width) {
  TORCH_CHECK_VALUE(grad.size(2) == height && grad.size(3) == width, "grad has shape ", grad.sizes(),
                    ", but the output's images are ", height, "x", width);
}

}  // namespace lgn
