"""Arguments that are one of some words, or an instance."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def check_choice(name: str, value: str | None, choices: Iterable[str | None], also: str = "") -> None:
    """Refuses a value that is not among the choices by a ValueError that lists them, and what else it may be."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}{also}")


def make_choice(name: str, chosen: str | T, base: type[T], kinds: Mapping[str, type[T]]) -> T:
    """Gives an object of the kind that a word names, or the instance of ``base`` itself; ValueError on another word."""
    if isinstance(chosen, base):
        return chosen
    also = f" or a {base.__name__}"
    if isinstance(chosen, str) and "." in chosen:
        also += f', of which a recipe gives the class as {{"class_path": "{chosen}"}}'
    check_choice(name, chosen, kinds, also)  # type: ignore[arg-type]
    return kinds[chosen]()  # type: ignore[index]
