"""Changes to settings in YAML that a reader may not expect: values, types, names, tags, anchors, depth."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml

#: Class paths that are none of what a key wants, or run a program if they are called.
FOREIGN: Final = (
    *("os.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "builtins.open", "shutil.rmtree", "no.Where"),
    *("torch.nn.Linear", "torch.optim.Adam", "lgn_lightning.data.Digits", "lgn_lightning.models.LogicMLP", "LogicMLP"),
    *("lightning.pytorch.callbacks.LambdaCallback", "", ".", "a.b.c", "lgn_lightning", "torch.load", "1", "é.è"),
)
#: A bomb of aliases: a few hundred bytes that stand for more than a machine holds.
BOMB: Final = "".join(
    f"{name}: &{name} [{','.join([f'*{before}' if before else '1'] * 9)}]\n"
    for before, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True)
)


def value(chance: random.Random) -> Any:
    """A value for any key."""
    return chance.choice(
        [
            *(None, True, False, "", "x", "auto", "4", "nan", " 5 ", "1e3", [], {}, [[]], [None], {"a": 1}),
            *(0, 1, 2, -1, 3, 7, -(2**31), 2**31, 10**9, 10**12, 2**63, 2**64, 10**30, -(10**9)),
            *(0.0, -0.0, 0.5, 1.5, -1.0, 1e-320, 1e308, math.inf, -math.inf, math.nan, 1e9),
            *([1, 2], [1, 8, 8], [0, 0, 0], [-1, 8, 8], [1, 10**5, 10**5], ["1"], "a" * 10_000, "\x00", "a\nb", "../x"),
            *({"class_path": chance.choice(FOREIGN)}, {"class_path": chance.choice(FOREIGN), "init_args": {"x": 1}}),
            {"class_path": chance.choice(FOREIGN), "init_args": None},
            {"init_args": {}},
            chance.choice(FOREIGN),
        ]
    )


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in a tree of dicts and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in list(pairs):
        yield tree, key
        yield from _places(part)


def change_tree(tree: Any, chance: random.Random, keep: tuple[str, ...] = ()) -> None:
    """Changes one place of a tree, none of the keys in ``keep``."""
    places = [(container, key) for container, key in _places(tree) if key not in keep]
    if not places:
        return
    container, key = chance.choice(places)
    kind = chance.randrange(10)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        renamed = chance.choice([f"{key}s", str(key)[:-1], str(key).upper(), f"{key}.x", "", "__init__", 1, None])
        container[renamed] = container.pop(key)
    elif kind == 2:
        container[key] = [container[key]]
    elif kind == 3:
        container[key] = copy.deepcopy(chance.choice([c[k] for c, k in places]))
    elif kind == 4 and isinstance(container, dict):
        container[chance.choice(["x", "class_path", "init_args", "dict_kwargs", "width", "__class__"])] = value(chance)
    elif kind == 5 and isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
        number = container[key]
        container[key] = chance.choice([0, -number, -1, number * 10**6, number + 0.5, str(number), math.nan, 10**9])
    elif kind == 6 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        container[key] = value(chance)


def change_text(text: str, chance: random.Random, canary: str) -> bytes:
    """Changes the text of a YAML file; nothing in it may ever make the file ``canary``."""
    lines = text.split("\n")
    place = chance.randrange(len(lines))
    tags = [
        f"!!python/object/apply:os.system ['touch {canary}']",
        f"!!python/object/new:os.system ['touch {canary}']",
        f"!!python/object/apply:builtins.exec [\"open('{canary}', 'w')\"]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        *("!!binary aGVsbG8=", "!!binary x", "!!set {a, b}", "!!omap [a: 1]", "!foo 3", "!!int x", "!!float {}"),
        *("!!timestamp x", "2020-01-01", "2020-99-99", "0o9", "0x", "1:30", "!!str", "!", "!!null x", "? a", "- - -"),
        *("9" * 5_000, "1e999", ".inf", ".nan", "-.inf", "yes", "~", "*missing", "&a *a", "&a [*a]", "&a {b: *a}"),
        *("[" * 3_000, "[" * 400 + "]" * 400, "{a: " * 300 + "1" + "}" * 300, "'", '"\\ud800"', '"\\x"', "@", "`", "%"),
    ]
    simple: list[Callable[[], str]] = [
        lambda: "\n".join([*lines[:place], *lines[place + 1 :]]),
        lambda: "\n".join([*lines[: place + 1], *lines[place:]]),
        lambda: text[: chance.randrange(len(text))],
        lambda: text.replace("\n", chance.choice(["\r\n", "\r", "\n\n", "\n\t"])),
        lambda: chance.choice(["", "#", "---", "---\n---", "null", "[]", "3", "x", "- a", "a: &a [*a]", "{}", "...\n"]),
        lambda: text + "\n---\n" + text,
        lambda: BOMB + text,
        lambda: text + "\n" + BOMB,
        lambda: BOMB,
        lambda: text.replace(":", chance.choice(["=", " :", "::", ":\t"]), chance.choice((1, -1))),
        lambda: text + "\nx: &x {<<: *x}\n",
        lambda: text + "\n" + "# " + "a" * 1_000_000,
    ]
    if chance.random() < 0.6:
        head, colon, _ = lines[place].partition(":")
        lines[place] = f"{head}{colon} {chance.choice(tags)}" if colon else chance.choice(tags)
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    data = chance.choice(simple)().encode()
    if chance.random() < 0.15:
        added = chance.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\xc3", "\u2028".encode()])
        cut = chance.choice([0, len(data) // 2])
        data = data[:cut] + added + data[cut:]
    return data


def dump(tree: Any) -> str:
    """The tree as YAML."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
