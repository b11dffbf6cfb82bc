"""The arguments of a class, read from its source text: to import torch and Lightning for them takes seconds."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

#: Names that are looked up from module to module before the search is given up.
_LONGEST_CHAIN: Final = 20


@dataclass(frozen=True)
class Argument:
    """An argument.

    Attributes:
        kind: Its annotation as it is written; empty without one.
        default: Its default as it is written; None if it must be given.
        help: What the docstring says of it, in one sentence.
    """

    kind: str = ""
    default: str | None = None
    help: str = ""

    @property
    def kinds(self) -> list[str]:
        """Types that the annotation allows, such as ``["int", "None"]`` of ``Optional[int]``; values of a Literal."""
        return list(dict.fromkeys(_kinds(ast.parse(self.kind or "Any", mode="eval").body)))


@dataclass(frozen=True)
class Signature:
    """What a class or function takes.

    Attributes:
        arguments: By name, in order.
        takes_more: Whether it passes arguments on to something that could not be read.
    """

    arguments: dict[str, Argument]
    takes_more: bool = False


@dataclass(frozen=True)
class _Found:
    """A class or function, and the module that defines it."""

    node: ast.ClassDef | ast.FunctionDef
    module: str


def signature_of(path: str) -> Signature | None:
    """Reads the arguments of a class or function; nothing is imported.

    Args:
        path: Where it can be imported from, such as ``lgn_lightning.models.LogicMLP``.

    Returns:
        None if its source cannot be found.
    """
    module, _, name = path.rpartition(".")
    found = _find(module, name) if module else None
    if found is None:
        return None
    return _of_function(found.node) if isinstance(found.node, ast.FunctionDef) else _of_class(found)


def is_subclass(path: str, base: str) -> bool:
    """Whether a class derives from one of this name, as far as sources can be found."""
    module, _, name = path.rpartition(".")
    found = _find(module, name) if module else None
    return found is not None and isinstance(found.node, ast.ClassDef) and _derives(found, base, 0)


def classes_of(package: str) -> list[str]:
    """Names that a package imports at its top."""
    tree = _tree(package)
    return [] if tree is None else sorted({alias.asname or alias.name for _, alias in _imports(tree)})


def _derives(found: _Found, base: str, depth: int) -> bool:
    if depth > _LONGEST_CHAIN or not isinstance(found.node, ast.ClassDef):
        return False
    if found.node.name == base:
        return True
    return any(parent is not None and _derives(parent, base, depth + 1) for parent in _bases(found))


def _of_class(found: _Found, depth: int = 0) -> Signature | None:
    node = found.node
    assert isinstance(node, ast.ClassDef)
    constructor = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    parents = _bases(found)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list) and constructor is None:
        own = Signature(
            {
                n.target.id: Argument(ast.unparse(n.annotation), None if n.value is None else ast.unparse(n.value))
                for n in node.body
                if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            }
        )
    elif constructor is not None:
        own = _of_function(constructor, skip=1)
    elif not parents:
        own = Signature({})
    else:
        own = Signature({}, takes_more=True)
    if own.takes_more and (constructor is None or _passes_on(constructor)):
        inherited = None
        for parent in parents if depth < _LONGEST_CHAIN else []:
            if parent is None:
                break
            if isinstance(parent.node, ast.ClassDef):
                inherited = _of_class(parent, depth + 1)
                if inherited is None or inherited.arguments or inherited.takes_more:
                    break
                inherited = Signature({})
        if inherited is not None:
            own = Signature({**inherited.arguments, **own.arguments}, inherited.takes_more)
    return _with_help(own, _docs(node) | ({} if constructor is None else _docs(constructor)))


def _passes_on(constructor: ast.FunctionDef) -> bool:
    """Whether ``**kwargs`` go to the class above, and not elsewhere."""
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "super().__init__"
        and any(keyword.arg is None for keyword in node.keywords)
        for node in ast.walk(constructor)
    )


def _of_function(node: ast.FunctionDef, skip: int = 0) -> Signature:
    given = node.args
    positional = [*given.posonlyargs, *given.args][skip:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    defaults += given.defaults[max(0, len(given.defaults) - len(positional)) :]
    pairs = [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    arguments = {
        argument.arg: Argument(
            "" if argument.annotation is None else ast.unparse(argument.annotation),
            None if default is None else ast.unparse(default),
        )
        for argument, default in pairs
    }
    return _with_help(Signature(arguments, given.kwarg is not None), _docs(node))


def _with_help(signature: Signature, docs: dict[str, str]) -> Signature:
    arguments = {
        name: replace(argument, help=docs.get(name) or argument.help) for name, argument in signature.arguments.items()
    }
    return replace(signature, arguments=arguments)


def _docs(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """The first sentence on each argument in the docstring's section ``Args``."""
    _, _, section = (ast.get_docstring(node) or "").partition("Args:\n")
    found: dict[str, list[str]] = {}
    name, indent = "", None
    for line in section.splitlines():
        depth = len(line) - len(line.lstrip())
        entry = re.match(r"\s+\**(\w+)(?: ?\([^)]*\))?: ?(.*)", line)
        if line.strip() and not depth:
            break
        if entry and indent in (None, depth):
            name, indent = entry[1], depth
            found[name] = [entry[2]]
        elif name and line.strip():
            found[name].append(line.strip())
    return {name: _first_sentence(" ".join(lines)) for name, lines in found.items()}


def _first_sentence(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return re.split(r"(?<=\w\w[.)])\s|(?<=\w\w``\.)\s", text.replace("``", "").strip())[0].rstrip(".")


def _bases(found: _Found) -> list[_Found | None]:
    """The classes that a class derives from; None for what cannot be found."""
    bases = []
    for base in found.node.bases if isinstance(found.node, ast.ClassDef) else ():
        name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        if name not in ("object", "ABC", "Generic", "Protocol"):
            bases.append(_find_dotted(found.module, name))
    return bases


def _find_dotted(module: str, name: str) -> _Found | None:
    """A name as a module's code has it: ``Base``, or ``pl.Base``."""
    first, _, rest = name.partition(".")
    tree = _tree(module) if rest else None
    if not rest:
        return _find(module, name)
    for home, alias in [] if tree is None else _imports(tree, module):
        if (alias.asname or alias.name) == first:
            owner, _, last = rest.rpartition(".")
            package = f"{home}.{alias.name}" if home else alias.name
            return _find(f"{package}.{owner}" if owner else package, last)
    return None


def _kinds(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp):
        yield from [*_kinds(node.left), *_kinds(node.right)]
    elif isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value).rpartition(".")[2]
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer in ("Union", "Optional"):
            for part in inside:
                yield from _kinds(part)
        elif outer == "Literal":
            yield from map(ast.unparse, inside)
        else:
            yield outer
        if outer == "Optional":
            yield "None"
    else:
        yield ast.unparse(node)


@cache
def _find(module: str, name: str, depth: int = 0) -> _Found | None:
    """Follows a name from module to module until it is defined."""
    tree = _tree(module)
    if tree is None or depth > _LONGEST_CHAIN:
        return None
    for node in _statements(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _Found(node, module)
    stars = []
    for home, alias in _imports(tree, module):
        if alias.name == "*":
            stars.append(home)
        elif (alias.asname or alias.name) == name and home:
            return _find(home, alias.name, depth + 1)
    return next((found for home in stars if (found := _find(home, name, depth + 1))), None)


def _imports(tree: ast.Module, module: str = "") -> Iterator[tuple[str, ast.alias]]:
    """Imports of a module, each with the module that it is from; that is empty for ``import x``."""
    is_package = (_source(module) or Path()).name == "__init__.py"
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (("", alias) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            above = base[: len(base) - node.level + is_package] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((home, alias) for alias in node.names)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, and those that stand below a condition."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]


@cache
def _tree(module: str) -> ast.Module | None:
    source = _source(module)
    try:
        return None if source is None else ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None


@cache
def _source(module: str) -> Path | None:
    """The file of a module, found as an import finds it, without importing the packages around it."""
    locations, spec, name = None, None, ""
    for part in module.split(".") if module else ():
        name = f"{name}.{part}".lstrip(".")
        spec = _spec(name, locations)
        if spec is None:
            return None
        locations = list(spec.submodule_search_locations or ())
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _spec(name: str, locations: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find is None else find(name, locations)
        if spec is not None:
            return spec
    return None
