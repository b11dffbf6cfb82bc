from __future__ import annotations

from lgn_lightning.circuit.emit.expressions import gate_expression


def test_every_three_input_expression_has_its_table() -> None:
    for table in range(256):
        text = gate_expression(table, ["a", "b", "c"], zero="0", one="1")
        for index in range(8):
            value = eval(text, {"a": index >> 2, "b": index >> 1 & 1, "c": index & 1}) & 1
            assert value == table >> (7 - index) & 1
