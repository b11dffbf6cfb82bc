// All files that include headers of torch, as one: the headers take a compiler far longer than the code behind them.
#include "binding.cpp"
#include "bit_logic.cpp"
#include "bit_tree_conv.cpp"
#include "bits_binding.cpp"
#include "choices.cpp"
#include "lut_binding.cpp"
#include "tree_conv.cpp"
