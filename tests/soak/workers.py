"""Runs cases in worker processes: a crash or a hang of a worker ends one case, and neither the test nor the others."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

#: What may come of a case; all but the first two are faults.
KINDS: Final = ("refused", "valid", "crash", "traceback", "hang", "wrong")
FAULTS: Final = KINDS[2:]
#: Bytes that a case may take beyond what its process has: a small file that wants more is a fault, and this machine's
#: other processes are not the ones to notice it.
MEMORY: Final = 4 << 30

# One process imports torch and Lightning, once; all workers are forks of it. It is fresh: no native library is loaded.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["lgn_lightning.cli.main", "lgn_lightning.cli.fit", "tests.soak.cases"])


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        kind: One of `KINDS`.
        what: The error, or what is wrong; its digits and quoted words do not tell faults apart.
        place: Where it was raised.
    """

    kind: str
    what: str = ""
    place: str = ""

    @property
    def signature(self) -> str:
        """What equal faults have in common."""
        text = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|/[^\s:]*", "…", self.what.split("\n")[0])
        return f"{self.kind} in {self.place or '?'}: {re.sub(r'-?[0-9][0-9.,e+]*', '#', text)[:160]}"


@dataclass
class Tally:
    """Counts outcomes and keeps one example of each distinct fault.

    Args:
        what: What the cases are, in the plural.
        ok: What to call the cases that were valid.
    """

    what: str
    refused: str = "refused with one error"
    ok: str = "valid"
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, case: object, outcome: Outcome, saved: Callable[[], object] = lambda: "") -> None:
        """Counts a case; ``saved`` writes it to a file and gives its path, if it is the first of its fault."""
        self.counts[outcome.kind] += 1
        if outcome.kind in FAULTS:
            if outcome.signature not in self.faults:
                self.faults[outcome.signature] = [0, case, outcome.what, str(saved())]
            self.faults[outcome.signature][0] += 1

    def text(self) -> str:
        """The counts in one line, and below it the distinct faults, most frequent first."""
        n = self.counts
        plural = {"crash": "crashes", "traceback": "tracebacks", "hang": "hangs", "wrong": "wrong"}
        parts = [f"{n['refused']:,} {self.refused}", f"{n['valid']:,} {self.ok}"]
        line = f"{n.total():,} {self.what}: " + ", ".join(
            parts + [f"{n[kind]:,} {kind if n[kind] == 1 else plural[kind]}" for kind in FAULTS]
        )
        rows = sorted(self.faults.items(), key=lambda pair: -pair[1][0])
        return "\n".join(
            [line] + [f"  {count} × {name}\n      first: {case}  {path}" for name, (count, case, _, path) in rows]
        )

    def check(self) -> None:
        """Prints the counts, and fails if there are faults."""
        print("\n" + self.text(), flush=True)
        assert not self.faults, self.text()


def out_folder() -> Path:
    """Where cases that fail are written."""
    folder = Path(os.environ.get("LGN_SOAK_OUT", "build/soak")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Worker:
    """A process that runs a function on one case after another, and is started anew when it dies.

    Args:
        function: Called as ``function(*arguments)`` in the process; it can be imported by name.
        seconds: What a case may take.
        environment: Variables of the process.
        memory: Bytes that a case may take.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        seconds: float = 20.0,
        environment: dict[str, str] | None = None,
        memory: int = MEMORY,
    ) -> None:
        self._scratch = tempfile.mkdtemp(prefix="soak-")  # what a killed process leaves is removed with it
        self._serve = (function, {"TMPDIR": self._scratch} | (environment or {}), memory)
        self._seconds = seconds
        self._process: Any = None
        self._pipe: Connection | None = None
        self._log = Path(tempfile.mkstemp(prefix="soak-", suffix=".log")[1])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.unlink(missing_ok=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def start(self) -> None:
        """Starts the process, so that it is ready when the first case comes."""
        self._pipe, theirs = _CONTEXT.Pipe()
        self._log.write_bytes(b"")
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, str(self._log), *self._serve), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(180) or self._pipe.recv() != "ready":
            raise RuntimeError(f"a worker did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def __call__(self, *arguments: Any) -> Any:
        """Runs a case: what the function returned, or an `Outcome` of a crash, a hang, or what it raised."""
        if self._process is None or not self._process.is_alive():
            self.stop()
            self.start()
        assert self._pipe is not None
        try:
            self._pipe.send(arguments)
            if self._pipe.poll(self._seconds):
                return self._pipe.recv()
            kind, what = "hang", f"not done after {self._seconds:.0f} s"
            os.kill(self._process.pid, signal.SIGUSR1)  # faulthandler writes where it is
            time.sleep(0.3)
        except (EOFError, ConnectionError):
            self._process.join(10)
            code = self._process.exitcode or 0
            kind, what = "crash", signal.Signals(-code).name if code < 0 else f"exit {code}"
        log = self._log.read_text(errors="replace")
        self.stop()
        return Outcome(kind, what, _place_in_log(log))

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _serve(pipe: Connection, log: str, function: Callable[..., Any], environment: dict[str, str], memory: int) -> None:
    file = os.open(log, os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.update(environment)
    tempfile.tempdir = None
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    warnings.simplefilter("ignore")
    with contextlib.suppress(OSError):
        os.nice(10)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + memory, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
        try:
            answer = function(*arguments)
        except BaseException as error:  # whatever it is, it is the outcome
            answer = raised(error)
        pipe.send(answer)


def raised(error: BaseException, kind: str = "traceback") -> Outcome:
    """The outcome of an exception that nobody turned into a message."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "lgn_lightning" in frame.filename or "/callbacks/" in frame.filename]
    frame = (own or frames or [None])[-1]
    place = "" if frame is None else f"{_short(frame.filename)} {frame.name}"
    return Outcome(kind, f"{type(error).__name__}: {str(error)[:600]}", place)


def _short(file: str) -> str:
    return re.sub(r".*/(?=(?:lgn_lightning|callbacks|tests|site-packages)/)", "", file)


def _place_in_log(log: str) -> str:
    """The innermost frame of this package in what faulthandler wrote: it lists the innermost first."""
    frames = re.findall(r'File "([^"]+)", line \S+ in (\S+)', log)
    own = [frame for frame in frames if "lgn_lightning/" in frame[0] or "/callbacks/" in frame[0]]
    return " ".join((_short((own or frames)[0][0]), (own or frames)[0][1])) if frames else ""


def run_seeds(
    tally: Tally,
    function: Callable[[int], Outcome],
    seeds: Iterable[int],
    save: Callable[[int, Path], Path],
    seconds: float = 20.0,
    environment: dict[str, str] | None = None,
) -> Tally:
    """Runs a function on seeds in one worker.

    Args:
        tally: Where to count.
        function: Seed → outcome, in the worker.
        seeds: The cases.
        save: Seed and path without suffix → the file that it wrote; runs here, and executes nothing of the case.
        seconds: What a case may take.
        environment: Variables of the worker.
    """
    with Worker(function, seconds, environment) as worker:
        for seed in seeds:
            outcome = worker(seed)
            name = f"{function.__module__.rpartition('.')[2]}-{seed}"
            tally.add(f"seed {seed}", outcome, lambda seed=seed, name=name: save(seed, out_folder() / name))  # type: ignore[misc]
    return tally


def run_command(arguments: list[str], allowed: tuple[int, ...] = (0, 1, 2)) -> Outcome:
    """Runs ``lgn`` in this process: success, or exactly one error in words; anything else is a fault."""
    from lgn_lightning.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    streams = _log_streams(err)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), streams:
            code: object = main(arguments)
    except SystemExit as exit_:  # of a parser, which has said why
        code = exit_.code
    except BaseException as error:  # `lgn` would print its traceback
        return raised(error)
    said = err.getvalue()
    if "Traceback (most recent call last)" in said + out.getvalue():
        return Outcome("traceback", "printed: " + said.strip().split("\n")[-1], " ".join(arguments[:1]))
    if code in allowed and code not in (0, 1, 2):
        return Outcome("refused", f"exit code {code}")
    if code not in allowed:
        return Outcome("wrong", f"exit code {code}: {said[-300:]}", " ".join(arguments[:1]))
    if code == 0:
        return Outcome("valid", out.getvalue()[-300:])
    errors = re.findall(r"^(?:lgn[ a-z]*: )?error: .*", said, re.MULTILINE)
    if len(errors) != 1:
        return Outcome("wrong", f"exit code {code} and {len(errors)} errors: {said[-300:]}", " ".join(arguments[:1]))
    return Outcome("refused", errors[0])


@contextlib.contextmanager
def _log_streams(stream: io.StringIO) -> Any:
    """Handlers of loggers keep the stream that there was when they were made."""
    handlers = [
        handler
        for name in [None, *logging.root.manager.loggerDict]
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, old in zip(handlers, before, strict=True):
            if old is not None:
                handler.setStream(old)
