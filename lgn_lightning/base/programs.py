"""Programs that we start end with us, and we end in order when a terminal closes."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


@contextmanager
def running(command: Sequence[str], **arguments: Any) -> Iterator[subprocess.Popen[Any]]:
    """Starts a program; at the end of the block it is killed if it still runs, with those that it has started.

    Args:
        command: The program and its arguments.
        arguments: As of ``subprocess.Popen``.
    """
    with raised_stop_signals(), subprocess.Popen(command, start_new_session=True, **arguments) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def raised_stop_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that ``finally`` is reached.

    The exit code is the one that a shell gives these signals. Who handles or ignores a signal already keeps it, such as
    a Trainer and ``nohup``; so do threads, which have no say.
    """
    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ours = [stop for stop in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(stop) == signal.SIG_DFL]
    for stop in ours:
        signal.signal(stop, _stop)
    try:
        yield
    finally:
        for stop in ours:
            signal.signal(stop, signal.SIG_DFL)


@contextmanager
def hangup_like_sigterm() -> Iterator[None]:
    """Inside, SIGHUP, which a terminal that closes sends to all that runs in it, does what SIGTERM does.

    Who handles or ignores it already keeps it, such as ``nohup``; so do threads.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGHUP, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
