"""Runs whose surroundings fail: a full disk, noexec, a read-only home, a folder that vanishes, others at work there.

Mounts are made in a mount namespace of the worker's own: they end with it, whatever happens to it. That takes root.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from lgn_lightning.base import native_build
from tests.soak.kills_in_writes import (
    SECONDS,
    STEPS,
    build_tiny,
    half_written,
    temporary_folder,
    unlike,
    whole_run,
    write_recipe,
)
from tests.soak.workers import Outcome, Tally, Worker, raised, run_command

_FIT: Final = ["fit", "small.yaml"]
_NEWNS, _REC, _PRIVATE = 0x00020000, 16384, 1 << 18
_RDONLY, _NOEXEC, _REMOUNT = 1, 8, 32


class MountError(Exception):
    """This process may not mount."""


def _call(function: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise MountError(f"{function}: {os.strerror(ctypes.get_errno())}")


def mount(folder: Path, size: int, flags: int = 0) -> None:
    """Mounts a tmpfs of so many bytes, in a namespace of this process's own.

    Raises:
        MountError: If that is not permitted.
    """
    if not flags & _REMOUNT:
        folder.mkdir(parents=True, exist_ok=True)
        _call("unshare", _NEWNS)
        _call("mount", b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None)
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(flags), f"size={size}".encode())


def _try_mount() -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # which is busy until this process ends
        try:
            mount(Path(folder) / "disk", 1 << 20)
        except MountError as error:
            return str(error)
    return ""


def why_no_mounts() -> str:
    """Why mounts are not possible here; "" if they are."""
    with Worker(_try_mount, 60) as worker:
        return str(worker())


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a function in a fork, so that it leaves this process as it is; what it returned."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            answer: Any = function(*arguments)
        except BaseException as error:  # it is the outcome
            answer = raised(error)
        with os.fdopen(theirs, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        data = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if not data:
        return Outcome("crash", signal.Signals(-code).name if code < 0 else f"exit {code}")
    return pickle.loads(data)


def run_at_step(arguments: list[str], step: int = -1, action: Callable[[], None] = lambda: None) -> Outcome:
    """Runs ``lgn`` and does something in the middle of a training step."""
    from lgn_lightning.training.module import LogicModule

    compute, done = LogicModule.training_step, []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = compute(self, batch, batch_idx)
        if self.trainer.global_step == step and not done:
            done.append(True)
            action()
        return loss

    LogicModule.training_step = training_step  # type: ignore[method-assign]
    return run_command(arguments, (0, 1, 2, 143))


def _ended(runs: Path, whole: str) -> Outcome:
    """Whether the runs in a folder ended with one that is like the whole one."""
    results = sorted(runs.glob("*/result.json"))
    if len(results) != 1:
        return Outcome("wrong", f"{len(results)} runs have a result", "afterwards")
    found = unlike(Path(whole), results[0].parent)
    return Outcome("wrong", f"not as the whole run: {', '.join(found)}", "afterwards") if found else Outcome("valid")


def _resumed(whole: str) -> Outcome:
    outcome = forked(run_at_step, [*_FIT, "--resume"])
    if outcome.kind == "refused" and "finished" in outcome.what:
        outcome = Outcome("valid")
    if outcome.kind != "valid":
        return Outcome("wrong", f"not resumed: {outcome.what}", outcome.place or "fit --resume")
    return _ended(Path("runs/small"), whole)


# --- the cases, each in a worker -------------------------------------------------------------------------------------
def full(folder: str, size: int, whole: str) -> Outcome:
    """A disk that fills up during a run; then there is room again, and it goes on."""
    disk = Path(folder) / "disk"
    mount(disk, size)
    os.chdir(disk)
    write_recipe(Path(folder))
    recipe = ["fit", str(Path(folder) / "small.yaml")]
    outcome = forked(run_at_step, recipe)
    if outcome.kind not in ("refused", "valid"):
        return outcome
    if outcome.kind == "refused" and not any(text in outcome.what for text in ("No space", "space left")):
        return Outcome("wrong", f"the error does not say that the disk is full: {outcome.what}", "fit")
    damaged = half_written(Path("runs"))
    if damaged:
        return Outcome("wrong", f"half written: {', '.join(damaged)}", "on a full disk")
    mount(disk, 64 << 20, _REMOUNT)
    shutil.copy(Path(folder) / "small.yaml", "small.yaml")
    after = _resumed(whole)
    return after if after.kind != "valid" else outcome


def noexec(folder: str, whole: str) -> Outcome:
    """A run on a file system that runs no programs: its result is there."""
    disk = Path(folder) / "disk"
    mount(disk, 64 << 20, _NOEXEC)
    os.chdir(disk)
    write_recipe(Path())
    outcome = forked(run_at_step, _FIT)
    if outcome.kind != "valid":
        return outcome if outcome.kind != "refused" else Outcome("wrong", outcome.what, "on noexec")
    return _ended(Path("runs/small"), whole)


def noexec_cache(folder: str) -> Outcome:
    """Native libraries on a file system that runs no programs: another folder, plain torch, or one error."""
    cache = Path(folder) / "cache"
    mount(cache, 256 << 20, _NOEXEC)
    _copy_libraries(cache)
    os.environ["LGN_CACHE_DIR"] = str(cache)
    os.chdir(folder)
    write_recipe(Path())
    return forked(run_at_step, _FIT)  # type: ignore[no-any-return]


def read_only_home(folder: str, whole: str) -> Outcome:
    """A home in which nothing can be written: libraries are kept in the temporary folder."""
    home, temporary = Path(folder) / "home", Path(folder) / "tmp"
    mount(home, 1 << 20)
    mount(home, 1 << 20, _REMOUNT | _RDONLY)
    temporary.mkdir()
    _copy_libraries(temporary / f"lgn_lightning-{os.getuid()}")  # so that the test does not compile for minutes
    for name in ("LGN_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ.pop(name, None)
    os.environ |= {"HOME": str(home), "TMPDIR": str(temporary)}
    tempfile.tempdir = None
    os.chdir(folder)
    write_recipe(Path())
    outcome = forked(run_at_step, _FIT)
    if outcome.kind != "valid":
        return outcome if outcome.kind != "refused" else Outcome("wrong", outcome.what, "read-only home")
    built = forked(_build_by_default)
    return built if isinstance(built, Outcome) else _ended(Path("runs/small"), whole)


def _build_by_default() -> None:
    cache = native_build.cache_roots()[0]
    del os.environ["TMPDIR"]
    if "LGN_CACHE_DIR" in os.environ or not str(cache).startswith(os.environ["HOME"]):
        raise RuntimeError(f"the cache is {cache}, and not in the home of the test")


def _copy_libraries(folder: Path) -> None:
    """Copies this machine's native libraries, which are built on their first use."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for root in native_build.cache_roots():
        for library in root.glob("*/*.so"):
            target = folder / library.parent.name
            target.mkdir(exist_ok=True)
            for file in (library, native_build._note(library)):
                if file.is_file():
                    shutil.copy(file, target / file.name)
        if list(root.glob("*/*.so")):
            return


def vanished(folder: str, target: str, step: int) -> Outcome:
    """A folder of the run is removed during training: one error, or a run that makes it again."""
    os.chdir(folder)
    write_recipe(Path())
    return forked(run_at_step, _FIT, step, lambda: shutil.rmtree(Path(folder) / target))  # type: ignore[no-any-return]


def terminated(folder: str, step: int, whole: str) -> Outcome:
    """SIGTERM, as schedulers send it: exit code 143 without a traceback, and the run can go on."""
    os.chdir(folder)
    write_recipe(Path())
    outcome = forked(run_at_step, _FIT, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    if outcome.kind == "traceback":
        return outcome  # type: ignore[no-any-return]
    if not outcome.what.startswith("exit code 143"):
        return Outcome("wrong", f"SIGTERM ends with {outcome.what or outcome.kind}", "fit")
    after = _resumed(whole)
    return after if after.kind != "valid" else Outcome("refused")


def held(folder: str, arguments: list[str]) -> Outcome:
    """A run that waits in its tenth step until the file ``go`` is there."""
    os.chdir(folder)

    def wait() -> None:
        Path("waiting").touch()
        for _ in range(1200):
            if Path("go").exists():
                return
            time.sleep(0.1)

    return run_at_step(arguments, 10, wait)


def beside(folder: str, arguments: list[str]) -> Outcome:
    """A command in the folder of another run."""
    os.chdir(folder)
    return run_at_step(arguments)


# --- the tallies -----------------------------------------------------------------------------------------------------
def _run_case(tally: Tally, case: str, function: Callable[..., Outcome], *arguments: Any, seconds: float) -> None:
    with temporary_folder() as folder, Worker(function, seconds) as worker:
        outcome = worker(str(folder), *arguments)
    if outcome.kind == "traceback" and outcome.what.startswith("MountError"):
        return  # nothing was tried, so nothing is counted
    tally.add(case, outcome)


def full_disks(count: int, first: int = 0) -> Tally:
    """Disks of so many sizes, up to that of a whole run."""
    whole, _ = whole_run()
    total = 4096 * sum(1 + path.stat().st_size // 4096 for path in whole.rglob("*"))
    tally = Tally("full disks", "stopped with one error, resumed, the same bits", "large enough")
    for seed in range(first, first + count):
        size = max(1, int((seed * 0.618034 + 0.31) % 1 * 1.1 * total / 4096)) * 4096
        _run_case(tally, f"seed {seed}: {size // 1024} KiB", full, size, str(whole), seconds=2 * SECONDS)
    return tally


def odd_mounts() -> Tally:
    """Runs on noexec, libraries on noexec, and a read-only home."""
    whole, _ = whole_run()
    tally = Tally("runs on noexec or with a read-only home", ok="with the whole run's result")
    _run_case(tally, "a run on noexec", noexec, str(whole), seconds=2 * SECONDS)
    _run_case(tally, "libraries on noexec", noexec_cache, seconds=2 * SECONDS)
    _run_case(tally, "a read-only home", read_only_home, str(whole), seconds=2 * SECONDS)
    return tally


def vanished_folders(count: int, first: int = 0) -> Tally:
    """So many runs of which a folder is removed."""
    targets = ("runs/small/version_0", "runs/small/version_0/checkpoints", "runs", "runs/small/version_0/circuits", "")
    tally = Tally("folders removed during a run", ok="made again")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        target = targets[seed % len(targets)]
        # Circuits are there from the first validation on.
        step = chance.randrange(11, STEPS) if target.endswith("circuits") else chance.randrange(1, STEPS)
        if target.endswith("checkpoints"):
            step = max(step, 5)
        name = f"seed {seed}: {target or 'the current folder'} at step {step}"
        _run_case(tally, name, vanished, target, step, seconds=SECONDS)
    return tally


def terminations(count: int, first: int = 0) -> Tally:
    """So many runs that get SIGTERM."""
    whole, _ = whole_run()
    tally = Tally("runs that get SIGTERM", "stopped with 143, resumed, the same bits")
    for seed in range(first, first + count):
        step = random.Random(seed).randrange(1, STEPS)
        _run_case(tally, f"seed {seed}: at step {step}", terminated, step, str(whole), seconds=2 * SECONDS)
    return tally


def _together(calls: list[Callable[[], Any]]) -> list[Any]:
    answers: list[Any] = [None] * len(calls)

    def call(place: int) -> None:
        answers[place] = calls[place]()

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def empty_caches(count: int, processes: int = 8) -> Tally:
    """So many times eight processes that want the same library, of which one builds it."""
    tally = Tally(f"caches, empty, with {processes} processes", ok="with one build")
    workers = [Worker(build_tiny, 120) for _ in range(processes)]
    try:
        for number in range(count):
            for worker in workers:
                worker.stop()
                worker.start()
            with temporary_folder() as folder:
                cache = folder / "cache"
                cache.mkdir()
                answers = _together([partial(worker, str(cache)) for worker in workers])
            failed = [answer for answer in answers if isinstance(answer, Outcome)]
            builds = sum(any(".build-" in event for event in answer) for answer in answers if isinstance(answer, list))
            if failed:
                outcome = failed[0]
            elif builds != 1:
                outcome = Outcome("wrong", f"{builds} processes built", "the cache")
            else:
                outcome = Outcome("valid")
            tally.add(f"round {number}", outcome)
    finally:
        for worker in workers:
            worker.__exit__()
    return tally


def two_in_one_folder() -> Tally:
    """A run, and others that want its folder while it goes on."""
    whole, _ = whole_run()
    tally = Tally("commands in the folder of a run that goes on", ok="beside it or after it")
    wanted = {
        "the same name": ([*_FIT, "--run_name=x"], "refused"),
        "--resume": (["fit", "--resume", "runs/small/x"], "refused"),
        "--resume of the recipe": ([*_FIT, "--resume"], "refused"),
        "another name": ([*_FIT, "--run_name=y"], "valid"),
    }
    with temporary_folder() as folder, Worker(held, 4 * SECONDS) as first, Worker(beside, SECONDS) as other:
        write_recipe(folder)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(first(str(folder), [*_FIT, "--run_name=x"])))
        thread.start()
        for _ in range(600):
            if (folder / "waiting").exists() or outcomes:
                break
            time.sleep(0.1)
        for name, (arguments, kind) in wanted.items():
            outcome = other(str(folder), arguments)
            if outcome.kind in ("refused", "valid") and outcome.kind != kind:
                outcome = Outcome("wrong", f"{outcome.kind}: {outcome.what}", name)
            tally.add(name, outcome)
        (folder / "go").touch()
        thread.join()
        outcome = outcomes[0]
        if outcome.kind == "valid":
            found = unlike(whole, folder / "runs" / "small" / "x")
            outcome = Outcome("wrong", ", ".join(found), "the run") if found else outcome
        elif outcome.kind == "refused":
            outcome = Outcome("wrong", f"the run that goes on ended: {outcome.what}", "the run")
        tally.add("the run that goes on", outcome)
    return tally


def run(count: int, first: int = 0) -> list[Tally]:
    """So many full disks, and the rest."""
    why = why_no_mounts()
    if why:
        print(f"no mounts here: {why}")
    mounts = [] if why else [full_disks(count, first), odd_mounts()]
    few = max(2, count // 4)
    return [*mounts, vanished_folders(few, first), terminations(few, first), empty_caches(few), two_in_one_folder()]
