"""Texts of exported files: templates, numbers in lines, names."""

import re
from collections.abc import Container, Iterable, Sequence
from functools import cache
from importlib.resources import files

from lgn_lightning.circuit.emit.expressions import gate_expression


@cache
def template(name: str) -> str:
    """Reads a file of ``emit/templates``: parts of the exported C and Verilog that do not depend on the gates."""
    return (files("lgn_lightning.circuit.emit") / "templates" / name).read_text(encoding="utf-8")


def fill(name: str, prefix: str, **values: object) -> str:
    """Fills in a template: values for each ``@@NAME@@``, and for a single ``@`` the prefix of all C names."""
    text = template(name)
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", str(value))
    return text.replace("@", prefix)


def lines_of(values: Sequence[int] | Sequence[str], per_line: int = 20) -> str:
    lines = (values[start : start + per_line] for start in range(0, len(values), per_line))
    return "".join("    " + ", ".join(map(str, line)) + ",\n" for line in lines)


def cases(tables: Iterable[int], operands: list[str], loop: str, result: str, indent: int = 4) -> str:
    """The cases of a C ``switch`` over truth tables, each a loop over gates of that table."""
    space = " " * indent
    return "".join(
        f"{space}case {table}:\n{space}    {loop}\n{space}        {result} = (vec)("
        f"{gate_expression(table, operands, zero='ZERO', one='~ZERO')});\n{space}    break;\n"
        for table in tables
    )


def free_name(base: str, taken: set[str], words: Container[str]) -> str:
    """The name, or with a number behind it, that is none of the words and, in small letters, not taken; now it is."""
    name, number = base, 1
    while name.lower() in taken or name in words:
        number += 1
        name = f"{base}_{number}"
    taken.add(name.lower())
    return name


def is_identifier(name: str) -> bool:
    """Whether a name may begin a name in C and in Verilog."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name, re.ASCII) is not None
