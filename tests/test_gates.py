import re

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicTreeConv2d, Threshold, ops
from lgn_lightning.circuit import Circuit, LoopedCircuit
from lgn_lightning.circuit.run.engine import Engine
from lgn_lightning.gates import (
    CONSTANT_GATES,
    GATE_NAMES,
    NUM_GATES,
    PASS_THROUGH_GATES,
    TRUTH_TABLES,
    expression,
)
from lgn_lightning.nn import LogicSequential
from lgn_lightning.nn.parametrizations import PARAMETRIZATIONS
from tests.circuit.engines import AVAILABLE

# Written out by hand from the names, for AB = 00, 01, 10, 11.
BY_NAME = {
    "zero": lambda a, b: False,
    "and": lambda a, b: a and b,
    "a_and_not_b": lambda a, b: a and not b,
    "a": lambda a, b: a,
    "not_a_and_b": lambda a, b: not a and b,
    "b": lambda a, b: b,
    "xor": lambda a, b: a != b,
    "or": lambda a, b: a or b,
    "nor": lambda a, b: not (a or b),
    "xnor": lambda a, b: a == b,
    "not_b": lambda a, b: not b,
    "a_or_not_b": lambda a, b: a or not b,
    "not_a": lambda a, b: not a,
    "not_a_or_b": lambda a, b: not a or b,
    "nand": lambda a, b: not (a and b),
    "one": lambda a, b: True,
}
PAIRS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("gate", range(NUM_GATES))
def test_table_matches_name_and_id(gate: int) -> None:
    table = tuple(int(BY_NAME[GATE_NAMES[gate]](a, b)) for a, b in PAIRS)
    assert TRUTH_TABLES[gate] == table
    assert int("".join(map(str, table)), 2) == gate


def test_names_are_distinct() -> None:
    assert len(set(GATE_NAMES)) == len(TRUTH_TABLES) == NUM_GATES == 16


def test_constant_and_pass_through_gates() -> None:
    assert [GATE_NAMES[g] for g in CONSTANT_GATES] == ["zero", "one"]
    assert [GATE_NAMES[g] for g in PASS_THROUGH_GATES] == ["a", "b", "not_b", "not_a"]


@pytest.mark.parametrize("gate", range(NUM_GATES))
def test_expression_on_words(gate: int) -> None:
    # Python's integers have C's bitwise semantics and precedence: & before ^ before |.
    a, b = 0b0011, 0b0101
    value = eval(expression(gate, "a", "b"), {"a": a, "b": b}) & 0b1111
    assert value == int("".join(map(str, TRUTH_TABLES[gate])), 2)
    assert re.fullmatch(r"[ab01~&|^() ]+", expression(gate, "a", "b"))


@pytest.mark.parametrize("gate", range(NUM_GATES))
def test_expression_takes_parenthesised_operands(gate: int) -> None:
    text = expression(gate, "(p | q)", "(r ^ s)")
    for bits in range(16):
        names = {name: bits >> i & 1 for i, name in enumerate("pqrs")}
        a, b = names["p"] | names["q"], names["r"] ^ names["s"]
        assert eval(text, names) & 1 == TRUTH_TABLES[gate][2 * a + b]


def test_expression_literals() -> None:
    assert expression(0, "a", "b", zero="1'b0") == "1'b0"
    assert expression(15, "a", "b", one="1'b1") == "1'b1"


@pytest.mark.parametrize("gate", [-1, 16])
def test_expression_refuses_other_ids(gate: int) -> None:
    with pytest.raises(ValueError, match=f"gate id {gate}"):
        expression(gate, "a", "b")


# What follows ties every other form of a gate to the table: the ops' tables and words, and the switches by gate id in
# ext/circuit (rewriting, mapping to three inputs, the machine code, the interpreter, the kernels of loops).


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_ops_have_the_table(name: str) -> None:
    gates, tables = torch.arange(NUM_GATES, dtype=torch.uint8), torch.tensor(TRUTH_TABLES)
    assert torch.equal(ops.hard_table(gates), tables.float())
    parametrization = PARAMETRIZATIONS[name]()
    assert parametrization.hard_gates(parametrization.from_table(tables.float())).tolist() == gates.tolist()
    x = ops.pack_bits(torch.tensor(PAIRS), 8)
    first, second = (torch.full((NUM_GATES,), i, dtype=torch.int32) for i in (0, 1))
    y = ops.unpack_bits(ops.logic_packed(x, gates, first, second), len(PAIRS))
    assert torch.equal(y.t().int(), tables.int())


def test_circuits_have_the_table() -> None:
    conv = LogicTreeConv2d(1, NUM_GATES, (1, 2), 1, channels_per_tree=1)
    with torch.no_grad():
        conv.weights.copy_(torch.eye(NUM_GATES))
        conv.leaves.copy_(torch.tensor([[0, 0], [0, 0], [0, 1]])[:, None])
    # Twice side by side: a convolution at one place would not become a loop.
    net = LogicSequential(Threshold([0.5], (1, 1, 3), flatten=False), conv, nn.Flatten(), GroupSum(NUM_GATES)).eval()
    images = torch.tensor([(a, b, a) for a, b in PAIRS], dtype=torch.uint8).view(-1, 1, 1, 3) * 255
    tables = np.array(TRUTH_TABLES).T
    expected = tables + tables[[2 * b + a for a, b in PAIRS]]  # gate(a, b) and gate(b, a)
    assert np.array_equal(net(images).int().numpy(), expected)
    flat, looped = Circuit.from_module(net), LoopedCircuit.from_module(net)
    for circuit in (flat, looped):
        for level in range(4 if circuit is flat else 3):
            assert np.array_equal(circuit.optimize(level).scores(images.numpy()), expected)
        for name, isa in AVAILABLE:
            for optimized in (False, True):
                engine = Engine(circuit, name, isa=isa, optimized=optimized)
                assert np.array_equal(engine(images.numpy()), expected), (name, isa, optimized)
