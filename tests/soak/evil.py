"""What a forged file names: whatever of this is imported or called leaves a canary in the current folder."""

from pathlib import Path
from typing import Any

from torch import nn

from lgn_lightning.data import Digits

#: The folder at import: forged files name this module as `evil`, from a folder of the case.
Path("canary-import").touch()


class Touch:
    """A callable class, which a recipe can make where it wants a function."""

    def __init__(self, name: str = "canary-class") -> None:
        Path(name).touch()

    def __call__(self, *_: Any, **__: Any) -> None:
        Path("canary-call").touch()


def touch(*_: Any, **__: Any) -> None:
    """A function."""
    Path("canary-function").touch()


class Net(nn.Linear):
    """A net of a foreign package: built only where the user trusts it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        Path("canary-net").touch()
        super().__init__(64, 10)


class Data(Digits):
    """A data module of a foreign package."""

    def __init__(self, **_: Any) -> None:
        Path("canary-data").touch()
        super().__init__()
