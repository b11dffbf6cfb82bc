// All files that include headers of torch, as one: the headers take a compiler far longer than the code behind them.
#include "binding.cpp"
#include "bit_logic.cpp"
#include "bit_tree_conv.cpp"
#include "choice_ops.cpp"
#include "lut_ops.cpp"
#include "tree_conv.cpp"
#include "wiring_cache.cpp"
