"""C of a table's rows: the struct of its columns by name, and the comparisons that make the inputs."""

import math
import re
from collections.abc import Container, Iterable, Sequence

import numpy as np

from lgn_lightning.base.columns import STORED, Column, Comparisons, Op
from lgn_lightning.circuit.emit.text import fill, free_name, template

#: C types, and what a missing value is, by how a column is stored.
_TYPES = {
    "<f4": ("float", "NAN"),
    "<f8": ("double", "NAN"),
    "<i4": ("int32_t", "INT32_MIN"),
    "<i8": ("int64_t", "INT64_MIN"),
}
#: Names that no field of the struct has, in capitals or not. Users' programs rely on the names of fields that come of
#: this list, so it stays as it is.
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """auto break case char const continue default do double else enum extern float for goto if inline int long
        register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
        bool true false class new delete private public protected this template typename using namespace operator and
        or not xor nan infinity""",
    )
)
#: Names that no field has in exactly this spelling: the other words of C23 and C++26, types of the struct, macros of
#: gcc, clang and MinGW, of the headers that the file includes, and of the file itself.
_WORDS = frozenset(template("c_words.txt").split())
#: Ends of the header's macros, behind the name of the export in capitals.
_ENDS = ("H", "NUM_INPUTS", "NUM_CLASSES", "NUM_PIXELS", "NUM_STATE", "NUM_OUTPUTS", "WORD_BITS")


def identifiers(columns: Sequence[Column], reserved: Iterable[str], words: Container[str]) -> list[str]:
    """A name for each column that may stand in C and Verilog: its own as far as possible, and none twice.

    None is one of ``words``, or in any letters one of ``reserved``. None ends in an underscore, which leaves such names
    to what is around it.
    """
    taken, names = set(reserved), []
    for column in columns:
        base = re.sub(r"[^A-Za-z0-9]+", "_", column.name, flags=re.ASCII).strip("_")
        base = base if base and base[0].isalpha() else f"c_{base}".rstrip("_")
        names.append(free_name(base, taken, words))
    return names


def _fields(comparisons: Comparisons, name: str) -> list[str]:
    """Names of the struct's fields in the export of this name."""
    macros = {f"{name}_NUM_COLUMNS", *(f"{name.upper()}_{end}" for end in _ENDS)}
    return identifiers(comparisons.columns, _KEYWORDS, _WORDS | macros)


def emit_row_header(comparisons: Comparisons, name: str, words: dict[str, str], source: str = "rows.h.in") -> str:
    """The part of the header that declares the struct and what takes it; ``words`` are those of the decoding."""
    fields = []
    for column, identifier in zip(comparisons.columns, _fields(comparisons, name), strict=True):
        kind, missing = _TYPES[column.dtype.str]
        what = f"{column.name}: " if column.name != identifier else ""
        what += f"a code, see {name}_code; " if column.kind == "category" else ""
        what += "0 or 1; " if column.kind == "boolean" else ""
        fields.append(f"    {kind} {identifier}; /* {_comment(what)}{missing} is missing */\n")
    names = ", ".join(f"{name}_COLUMN_{identifier}" for identifier in _fields(comparisons, name))
    return fill(source, name, FIELDS="".join(fields), COLUMNS=len(comparisons.columns), NAMES=names, **words)


def emit_rows(comparisons: Comparisons, read: Sequence[int], name: str) -> str:
    """The functions that pack rows into the slots of the inputs that are read, and tables of columns and categories."""
    names = _fields(comparisons, name)
    parts, calls = [], []
    for number, (column, identifier) in enumerate(zip(comparisons.columns, names, strict=True)):
        own = [bit for bit in read if comparisons.column[bit] == number]
        if not own:
            continue
        body = _values(comparisons, column, own, f"x[j].{identifier}")
        body += [f"        s[{bit} * LANES] |= (word)((word)({_test(comparisons, bit)}) << j);\n" for bit in own]
        calls.append(f"    pack_{number}(x, count, s);\n")
        parts.append(
            f"\n/* {_comment(column.name)} */\n"
            f"static void pack_{number}(const {name}_row *x, size_t count, word *s)\n{{\n"
            + "".join(f"    s[{bit} * LANES] = 0;\n" for bit in own)
            + "    for (size_t j = 0; j < count; j++) {\n"
            + "".join(body)
            + "    }\n}\n"
        )
    unused = "" if calls else "    (void)x, (void)count, (void)s;\n"
    parts.append(
        f"\nstatic void pack_rows(const {name}_row *x, size_t count, word *s)\n{{\n{unused}{''.join(calls)}}}\n"
    )
    tables = [
        f"static const char *const CATEGORIES_{number}[] = {{{', '.join(map(c_string, column.categories))}}};\n"
        for number, column in enumerate(comparisons.columns)
        if column.categories
    ]
    kinds = list(STORED)
    rows = ",\n".join(
        f"    {{{c_string(column.name)}, {kinds.index(column.kind)}, {len(column.categories)}, "
        f"{f'CATEGORIES_{number}' if column.categories else 'NULL'}}}"
        for number, column in enumerate(comparisons.columns)
    )
    tables.append(
        "static const struct { const char *name; int32_t kind, count; const char *const *categories; } COLUMNS[] = {\n"
        f"{rows}}};\n"
    )
    return "".join(parts) + "\n" + "".join(tables)


def emit_row_bits(comparisons: Comparisons, read: Sequence[int], name: str) -> str:
    """The function that makes bytes, 0 or 255, of the comparisons that are read, in their order."""
    names = _fields(comparisons, name)
    place = {bit: index for index, bit in enumerate(read)}
    parts = []
    for number, (column, identifier) in enumerate(zip(comparisons.columns, names, strict=True)):
        own = [bit for bit in read if comparisons.column[bit] == number]
        if own:
            body = _values(comparisons, column, own, f"x->{identifier}")
            body += [f"        s[{place[bit]}] = (uint8_t)-({_test(comparisons, bit)});\n" for bit in own]
            parts.append("    {\n" + "".join(body) + "    }\n")
    unused = "" if parts else "    (void)x, (void)s;\n"
    return f"\nstatic void row_bits(const {name}_row *x, uint8_t *s)\n{{\n{unused}{''.join(parts)}}}\n"


def _values(comparisons: Comparisons, column: Column, bits: Sequence[int], value: str) -> list[str]:
    """Declares the value of a column, and, where bits of whole numbers are read, these as they are and in Gray code."""
    kind, missing = _TYPES[column.dtype.str]
    lines = [f"        const {kind} v = {value};\n"]
    if any(comparisons.op[bit] >= Op.BIT for bit in bits):
        top = f"INT{column.dtype.itemsize * 8}_MIN"
        lines.append(f"        const u{kind} u = v == {missing} ? 0 : (u{kind})v;\n")
        lines.append(f"        const u{kind} g = u ^ (u >> 1 | (u & (u{kind}){top}));\n")
        lines.append("        (void)g;\n")
    return lines


def _test(comparisons: Comparisons, bit: int) -> str:
    """A comparison in C, of the value ``v``."""
    column, op = comparisons.columns[comparisons.column[bit]], Op(comparisons.op[bit])
    if op == Op.MISSING:
        return "v != v" if column.is_float else f"v == {_TYPES[column.dtype.str][1]}"
    if op >= Op.BIT:
        return f"{'u' if op == Op.BIT else 'g'} >> {comparisons.constant[bit]} & 1"
    return f"v {'>' if op == Op.GREATER else '=='} {c_number(comparisons.value(bit), column)}"


def c_number(value: float | int, column: Column) -> str:
    """A constant of a column's type, exactly: the shortest decimal that is read back as the same number."""
    if not column.is_float:
        return f"INT64_C({value})" if column.dtype.itemsize == 8 else str(value)
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{np.float32(value)!s}f" if column.dtype.itemsize == 4 else repr(float(value))


def _comment(text: str) -> str:
    """Text for a comment in a file that templates make: no end of a comment, and no mark of a template."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("@", "(at)").replace("\\", "/")


def c_string(text: str) -> str:
    """Quotes a name; bytes beyond ASCII become octal escapes, whose three digits never run on."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
