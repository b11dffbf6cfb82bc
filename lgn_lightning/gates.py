"""The table of the 16 two-input gates: the one source that every other form of a gate is derived from.

A gate *is* its truth table. Gate id ``i`` holds, from its most to its least significant bit, the outputs for
AB = 00, 01, 10, 11; so 1 is "A and B", 3 is "A", 6 is xor and 7 is or, the numbering of Petersen et al., *Deep
Differentiable Logic Gate Networks* (NeurIPS 2022), Table 1.
"""

from typing import Final

NUM_GATES: Final = 16

GATE_NAMES: Final[tuple[str, ...]] = (
    "zero",
    "and",
    "a_and_not_b",
    "a",
    "not_a_and_b",
    "b",
    "xor",
    "or",
    "nor",
    "xnor",
    "not_b",
    "a_or_not_b",
    "not_a",
    "not_a_or_b",
    "nand",
    "one",
)

#: Ids of the gates that circuits are built of.
AND, A_AND_NOT_B, PASS_A, NOT_A_AND_B, XOR, OR, NOT_A, NOT_A_OR_B = map(
    GATE_NAMES.index, ("and", "a_and_not_b", "a", "not_a_and_b", "xor", "or", "not_a", "not_a_or_b")
)

#: ``TRUTH_TABLES[gate] == (t00, t01, t10, t11)``, each 0 or 1.
TRUTH_TABLES: Final[tuple[tuple[int, int, int, int], ...]] = tuple(
    (gate >> 3 & 1, gate >> 2 & 1, gate >> 1 & 1, gate & 1) for gate in range(NUM_GATES)
)

#: Gates that ignore both inputs.
CONSTANT_GATES: Final[tuple[int, ...]] = tuple(g for g, t in enumerate(TRUTH_TABLES) if len(set(t)) == 1)

#: Gates that copy or negate one input and ignore the other.
PASS_THROUGH_GATES: Final[tuple[int, ...]] = tuple(
    g
    for g, (t00, t01, t10, t11) in enumerate(TRUTH_TABLES)
    if g not in CONSTANT_GATES and ((t00, t01) == (t10, t11) or (t00, t10) == (t01, t11))
)


def expression(gate: int, a: str, b: str, *, zero: str = "0", one: str = "~0") -> str:
    """Writes a gate as an expression of ``& | ^ ~``, which means the same in C (on words) and in Verilog.

    Operands are parenthesised already if they are more than a name; the expression has no outer parentheses. ``zero``
    and ``one`` are the literals of the constant gates 0 and 15.
    """
    if not 0 <= gate < NUM_GATES:
        raise ValueError(f"gate id {gate} is not in 0…{NUM_GATES - 1}")
    return _TEMPLATES[gate].format(a=a, b=b, zero=zero, one=one)


def _template(gate: int) -> str:
    """Finds the expression of fewest operators for a truth table, so that text and table cannot disagree."""
    operands = ("{a}", "~{a}"), ("{b}", "~{b}")
    literals = ["{zero}", "{one}", *operands[0], *operands[1]]
    binary = [f"{x} {op} {y}" for op in "&|^" for x in operands[0] for y in operands[1]]
    negated = [f"~({x} {op} {y})" for op in "&|^" for x in operands[0][:1] for y in operands[1][:1]]
    for candidate in sorted([*literals, *binary, *negated], key=lambda text: sum(map(text.count, "~&|^"))):
        table = tuple(
            eval(candidate.format(a=f"({a})", b=f"({b})", zero="0", one="1"), {"__builtins__": {}}) & 1
            for a in (0, 1)
            for b in (0, 1)
        )
        if table == TRUTH_TABLES[gate]:
            return candidate
    raise AssertionError(f"no expression for gate {gate}")


_TEMPLATES: Final[tuple[str, ...]] = tuple(_template(gate) for gate in range(NUM_GATES))
