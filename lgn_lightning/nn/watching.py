"""Looks at what goes through the layers of a net while it runs: for callbacks and reports."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from torch import nn

_Key = TypeVar("_Key")


@contextmanager
def watching(layers: Mapping[_Key, nn.Module], see: Callable[[_Key, Any, Any], None]) -> Iterator[None]:
    """Calls ``see(key, inputs, output)`` whenever a layer has run in the block, and leaves no hook behind."""
    with ExitStack() as hooks:
        for key, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(lambda _, x, y, key=key: see(key, x, y)))
        yield
