"""The ops that layers are made of; each runs natively where the extension can be had, else in plain torch."""

from lgn_lightning.ops.bit_activations import BitActivations, pack_activations
from lgn_lightning.ops.bit_tree import bit_tree_conv
from lgn_lightning.ops.bit_tree_choices import learned_bit_tree_conv
from lgn_lightning.ops.choices import choose, learn_choices
from lgn_lightning.ops.functional import (
    group_sum,
    group_sum_packed,
    hard_table,
    logic,
    logic_group_sum,
    logic_packed,
    pack_bits,
    softmax_table,
    unpack_bits,
)
from lgn_lightning.ops.geometry import ConvGeometry
from lgn_lightning.ops.lookup_tables import lut, lut_ids, lut_packed, lut_table
from lgn_lightning.ops.straight_through import bit_logic, gate_ids
from lgn_lightning.ops.tree import logic_tree_conv
from lgn_lightning.ops.tree_choices import learned_tree_conv

__all__ = [
    "BitActivations",
    "ConvGeometry",
    "bit_logic",
    "bit_tree_conv",
    "choose",
    "gate_ids",
    "group_sum",
    "group_sum_packed",
    "hard_table",
    "learn_choices",
    "learned_bit_tree_conv",
    "learned_tree_conv",
    "logic",
    "logic_group_sum",
    "logic_packed",
    "logic_tree_conv",
    "lut",
    "lut_ids",
    "lut_packed",
    "lut_table",
    "pack_activations",
    "pack_bits",
    "softmax_table",
    "unpack_bits",
]
