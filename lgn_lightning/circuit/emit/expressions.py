"""Shortest ``& | ^ ~`` expressions of three-input truth tables, the same text for C and Verilog."""

import operator
from collections.abc import Callable
from functools import cache

from lgn_lightning.gates import expression

#: Tables of the operands themselves: bit 7 is the output for ABC = 000.
_OPERANDS = {"{a}": 0b00001111, "{b}": 0b00110011, "{c}": 0b01010101}
_OPERATORS: dict[str, Callable[[int, int], int]] = {"&": operator.and_, "|": operator.or_, "^": operator.xor}


def gate_expression(table: int, operands: list[str], *, zero: str = "0", one: str = "~0") -> str:
    """Writes a gate id, or the eight bits of three operands (ABC = 000 first), without outer parentheses."""
    if len(operands) == 2:
        return expression(table, *operands, zero=zero, one=one)
    if table in (0, 255):
        return one if table else zero
    a, b, c = operands
    return three_input_templates()[table].format(a=a, b=b, c=c)


@cache
def three_input_templates() -> tuple[str, ...]:
    """Finds, by rising number of operators, an expression of each of the 256 tables; 0 and 255 are left empty."""
    found: dict[int, str] = {0: "", 255: ""}
    by_cost: list[dict[int, str]] = [{}]
    for text, table in _OPERANDS.items():
        for candidate, value in ((text, table), (f"~{text}", table ^ 255)):
            found[value] = by_cost[0][value] = candidate
    while len(found) < 256:
        cost = len(by_cost)
        fresh: dict[int, str] = {}
        for left_cost in range(cost):
            right = by_cost[cost - 1 - left_cost]
            for x, x_text in by_cost[left_cost].items():
                for y, y_text in right.items():
                    for symbol, function in _OPERATORS.items():
                        value = function(x, y)
                        if value not in found and value not in fresh:
                            fresh[value] = f"{_parenthesise(x_text)} {symbol} {_parenthesise(y_text)}"
        # NOT of a whole expression costs nothing extra where it saves a search: ternary logic absorbs it anyway.
        for value, text in list(fresh.items()):
            if value ^ 255 not in found and value ^ 255 not in fresh:
                fresh[value ^ 255] = f"~({text})"
        by_cost.append(fresh)
        found.update(fresh)
    return tuple(found[table] for table in range(256))


def _parenthesise(text: str) -> str:
    return f"({text})" if " " in text and not text.startswith("~(") else text
