"""Arguments that are one of some words, or an instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def check_choice(name: str, value: str | None, choices: Iterable[str | None], also: str = "") -> None:
    """Refuses a value that is not among the choices.

    Args:
        name: Of the argument.
        value: Given for it.
        choices: The words that it may be.
        also: What else it may be, for the message.

    Raises:
        ValueError: If it is none of them; the message lists them.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}{also}")


def make_choice(name: str, chosen: str | T, base: type[T], kinds: Mapping[str, type[T]]) -> T:
    """Gives an object of the kind that a word names, or the instance itself.

    Args:
        name: Of the argument.
        chosen: A word or an instance of ``base``.
        base: What instances derive from.
        kinds: Classes by word, each made without arguments.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(chosen, base):
        return chosen
    check_choice(name, chosen, kinds, f" or a {base.__name__}")  # type: ignore[arg-type]
    return kinds[chosen]()  # type: ignore[index]
