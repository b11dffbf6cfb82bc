"""Lines of the user's code, for errors."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Final

import torch

#: Code whose lines are no user's.
_OWN: Final = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent))


def line_here(top: CodeType) -> str:
    """The innermost line of the user's code that runs now, within a call of ``top``."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not top:
        if not frame.f_code.co_filename.startswith(_OWN):
            return _described(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def line_of(trace: TracebackType | None, top: FrameType | None) -> str:
    """The innermost line of the user's code that an error passed through."""
    found = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith(_OWN) and trace.tb_frame is not top:
            found = _described(name, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _described(file: str, number: int) -> str:
    source = linecache.getline(file, number).strip()
    return f" ({Path(file).name}, line {number}{f': {source}' if source else ''})"
