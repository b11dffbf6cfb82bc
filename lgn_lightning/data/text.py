"""`TextChars`: the next character of a text, of those before it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.base import SampleDataModule, Samples
from lgn_lightning.data.known import file_or_folder

#: The characters that are told apart: newline, and those of ASCII that are printed. All others are taken for spaces.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
#: Bits of a character: those of its ASCII code, the lowest first.
BITS = 7


class TextChars(SampleDataModule):
    """Windows over a text, uint8 bits ``[N, steps, 7]``, and the character that follows, one of 96.

    The loss of a net, in nats, over ln 2 is its bits per character. The last tenth of the text is the test.

    Args:
        *args: Arguments of `SampleDataModule`.
        path: A text file, UTF-8; None takes ``root`` if that is a file, else ``pydoc_data/topics.py`` of Python.
        steps: Characters of a window.
        count: Windows to train on, evenly spread, at most.
        test_count: Windows to test on, likewise.
        **kwargs: More arguments of `SampleDataModule`.

    Raises:
        ValueError: If there is no window, or it has no character.
    """

    not_from_files: ClassVar[dict[str, Any]] = {**SampleDataModule.not_from_files, "path": None}
    noun = "windows"

    def __init__(
        self,
        *args: Any,
        path: str | None = None,
        steps: int = 16,
        count: int = 100_000,
        test_count: int = 10_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if min(steps, count, test_count) < 1:
            raise ValueError(f"steps={steps}, count={count} and test_count={test_count} must be 1 or more")
        self.path = None if path is None else Path(path).expanduser()
        self.steps, self.count, self.test_count = steps, count, test_count

    @property
    def class_names(self) -> list[str]:
        return [repr(char) for char in ALPHABET]

    def _load_train(self) -> Samples:
        text = self._text()
        return self._windows(text[: len(text) * 9 // 10], self.count)

    def _load_test(self) -> Samples:
        text = self._text()
        return self._windows(text[len(text) * 9 // 10 :], self.test_count)

    def _text(self) -> str:
        path = self.path or file_or_folder(self.root)
        if path is None:
            spec = importlib.util.find_spec("pydoc_data.topics")
            if spec is None or spec.origin is None:
                raise DataError("this Python comes without pydoc_data/topics.py: give a text with --data.path")
            path = Path(spec.origin)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a text: {error}") from error

    def _windows(self, text: str, most: int) -> Samples:
        if len(text) <= self.steps:
            raise DataError(f"a text of {len(text)} characters has no window of {self.steps} and a next one")
        codes = np.array([ord(char) if char in ALPHABET else ord(" ") for char in text], np.uint8)
        last = len(codes) - self.steps - 1
        starts = np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(np.int64))
        places = starts[:, None] + np.arange(self.steps)
        bits = codes[places][:, :, None] >> np.arange(BITS, dtype=np.uint8) & 1
        labels = np.maximum(codes[starts + self.steps].astype(np.int64) - 31, 0)  # the newline first
        return torch.from_numpy(bits.astype(np.uint8)), torch.from_numpy(labels)
