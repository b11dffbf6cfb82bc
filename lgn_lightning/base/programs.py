"""Programs that we start end with us, and we end in order when a terminal closes."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


@contextmanager
def running(command: Sequence[str], **arguments: Any) -> Iterator[subprocess.Popen[Any]]:
    """Starts a program; at the end of the block it is ended if it still runs, with those that it has started.

    It gets SIGTERM and a second to tidy up: ninja, for one, ends its compilers, which no signal of ours reaches.

    Args:
        command: The program and its arguments.
        arguments: As of ``subprocess.Popen``.
    """
    process: subprocess.Popen[Any] | None = None
    with raised_stop_signals():
        try:
            with postponed_signals():  # so that none finds a program that has no name yet
                process = subprocess.Popen(command, start_new_session=True, **arguments)
            yield process
        finally:
            if process is not None:
                with process:  # closes its pipes
                    if process.poll() is None:
                        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    for stop in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # the latter where all that is left is a zombie
            os.killpg(process.pid, stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    process.wait()


def run(
    command: Sequence[str], timeout: float | None = None, *, stderr: int = subprocess.PIPE, **arguments: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, as ``subprocess.run`` does, with its output as text; it ends where we do.

    Args:
        command: The program and its arguments.
        timeout: Seconds after which it is ended, and ``subprocess.TimeoutExpired`` is raised.
        stderr: Where errors go; ``subprocess.STDOUT`` puts them among the output.
        arguments: As of ``subprocess.Popen``.
    """
    with running(command, text=True, stdout=subprocess.PIPE, stderr=stderr, **arguments) as process:
        output, errors = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextmanager
def raised_stop_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that ``finally`` is reached.

    The exit code is the one that a shell gives these signals. Who handles or ignores a signal already keeps it, such as
    ``nohup``; so do threads, which have no say. A Trainer inside handles SIGTERM in its own way.
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
def postponed_signals() -> Iterator[None]:
    """What handles signals that come inside does so at the end."""
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(stop)
            if callable(handler):
                handlers[stop] = handler
                signal.signal(stop, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in came:
            handlers[number](number, frame)


@contextmanager
def hangup_like_sigterm() -> Iterator[None]:
    """Inside, SIGHUP, which a terminal that closes sends to all that runs in it, does what SIGTERM does.

    Who handles or ignores it already keeps it, such as ``nohup``; so do threads. `raised_stop_signals` does not count.
    """
    before = signal.getsignal(signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread() or before not in (signal.SIG_DFL, _stop):
        yield
        return
    signal.signal(signal.SIGHUP, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _stop(number: int, frame: FrameType | None) -> None:
    # A Trainer's handler calls the one that it found, and ends the training after a step.
    if signal.getsignal(number) is _stop:
        raise SystemExit(128 + number)
