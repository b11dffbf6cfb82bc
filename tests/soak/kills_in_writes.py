"""Kills that fall inside writes: what is left is whole or not there, and the resumed run ends with the same bits.

The process kills itself at the n-th file that it opens for writing, renames, makes or removes below a folder: Python
tells audit hooks of each. Or it dies in the middle of the bytes: a limit on the size of files is set when the file is
opened.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from lgn_lightning.base import native_build
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.checkpoint import read_checkpoint
from tests.killed_runs import differences
from tests.soak.workers import Outcome, Tally, Worker, out_folder, raised, run_command

#: Seconds that a run of 20 steps may take, its export compiled.
SECONDS: Final = 120.0
STEPS: Final = 20
_RUN: Final = "small"
_EVENTS: Final = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_KILLED: Final = ("SIGKILL", "SIGXFSZ")


# --- in the process that dies ----------------------------------------------------------------------------------------
class Writes:
    """Counts the events below a folder, and dies at one of them.

    Args:
        folder: The folder.
        number: At which event to die, counted from 1; 0 to count only.
        after_bytes: Die after so many bytes of the next write to a file that is this long; None to die at the event.
    """

    def __init__(self, folder: str, number: int = 0, after_bytes: int | None = None) -> None:
        self.count = 0
        self.seen: list[str] = []
        self._folder, self._number, self._bytes = os.path.realpath(folder), number, after_bytes

    def install(self) -> Writes:
        """Starts to count."""
        sys.addaudithook(self._hook)
        return self

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not self._below(event, arguments):
            return
        self.count += 1
        self.seen.append(f"{event} {arguments[0]!s}")
        if self.count != self._number:
            return
        if self._bytes is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._bytes, resource.RLIM_INFINITY))

    def _below(self, event: str, arguments: tuple[Any, ...]) -> bool:
        path = arguments[0]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        if event == "open":
            _, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
            if not writes:
                return False
        return os.path.abspath(os.fsdecode(path)).startswith(self._folder)  # noqa: PTH100 - of what may be not there


def fit(
    folder: str, arguments: list[str], number: int = 0, after_bytes: int | None = None, watched: str = "runs"
) -> tuple[Outcome, list[str]]:
    """Runs ``lgn fit`` in a folder; the outcome, and the events that there were."""
    os.chdir(folder)
    writes = Writes(os.path.join(folder, watched), number, after_bytes).install()  # noqa: PTH118
    return run_command(["fit", *arguments]), writes.seen


def write_recipe(folder: Path, callbacks: list[str] | None = None) -> None:
    """The digits recipe with a small net, and a resume point every four steps."""
    content = yaml.safe_load(find_recipe("digits").read_text())
    content["model"]["net"]["init_args"] |= {"width": 240, "depth": 2}
    content["trainer"] |= {"max_steps": STEPS, "val_check_interval": 10, "log_every_n_steps": 3}
    content["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    point = {
        "class_path": "lgn_lightning.callbacks.ResumePoint",
        "init_args": {"every_n_steps": 4, "max_overhead": 1e9},
    }
    content["trainer"]["callbacks"] += [{"class_path": "tests.synthetic.RandomPixels"}, point]
    (folder / f"{_RUN}.yaml").write_text(yaml.safe_dump(content))


def whole_run() -> tuple[Path, list[str]]:
    """The folder of a run that nobody killed, and the events that it took."""
    folder = out_folder() / f"whole-run-{os.getpid()}"
    events = folder / "events.json"
    if not events.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_recipe(folder)
        with Worker(fit, 300) as worker:
            answer = worker(str(folder), [f"{_RUN}.yaml"])
        if isinstance(answer, Outcome) or answer[0].kind != "valid":
            raise RuntimeError(f"the run that nobody kills failed: {answer}")
        events.write_text(json.dumps(answer[1]))
    return folder / "runs" / _RUN / "version_0", json.loads(events.read_text())


# --- what is left ----------------------------------------------------------------------------------------------------
def half_written(folder: Path) -> list[str]:
    """Files below a folder that have their names, and are not whole."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        try:
            if file.suffix == ".ckpt":
                read_checkpoint(file)
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".yaml":
                yaml.safe_load(file.read_text(encoding="utf-8"))["trainer"]
            if file.name == "manifest.json":
                found += _other_files(file)
        except Exception as error:
            found.append(f"{file.relative_to(folder)}: {type(error).__name__}")
    return found


def _other_files(manifest: Path) -> list[str]:
    files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return [
        f"{manifest.parent.name}/{name} is not as the manifest says"
        for name, digest in files.items()
        if not (manifest.parent / name).is_file()
        or hashlib.sha256((manifest.parent / name).read_bytes()).hexdigest() not in str(digest)
    ]


def unlike(whole: Path, run: Path) -> list[str]:
    """What a finished run does not have in common with the whole one: weights, metrics, circuits, result."""
    found = differences(whole, run)
    result, expected = RunFolder(run).result, RunFolder(whole).result
    if result is None or expected is None:
        return [*found, "result.json is missing"]
    names = ("accuracy_hard", "accuracy_soft", "gates", "steps", "validation")
    found += [f"result: {name}" for name in names if result.get(name) != expected.get(name)]
    for file in sorted(whole.rglob("lgn_net.*")):
        other = run / file.relative_to(whole)
        if not other.is_file():
            found.append(f"{file.relative_to(whole)} is missing")
        elif file.suffix == ".c" and file.read_bytes() != other.read_bytes():
            found.append(f"{file.relative_to(whole)} differs")
    found += [f"left over: {path.name}" for path in run.rglob(".*") if path.name != ".lock"]
    return found


# --- runs ------------------------------------------------------------------------------------------------------------
def check_kill(whole: Path, number: int, after_bytes: int | None, folder: Path) -> Outcome:
    """Kills a run at an event, resumes it, and compares it with the whole one."""
    write_recipe(folder)
    with Worker(fit, SECONDS) as worker:
        killed = worker(str(folder), [f"{_RUN}.yaml"], number, after_bytes)
    if not isinstance(killed, Outcome):
        killed = killed[0]
        if killed.kind != "valid":
            return Outcome("wrong", f"the run that was to be killed ended otherwise: {killed.what}", "fit")
    elif killed.what not in _KILLED:
        return killed
    runs = folder / "runs" / _RUN
    damaged = half_written(runs)
    if damaged:
        return Outcome("wrong", f"half written: {', '.join(damaged)}", "after a kill")
    finished = bool(list(runs.glob("*/result.json")))
    with Worker(fit, SECONDS) as worker:
        resumed = worker(str(folder), [f"{_RUN}.yaml", "--resume"])
    if isinstance(resumed, Outcome):
        return resumed
    if finished and resumed[0].kind == "refused" and "finished" in resumed[0].what:
        resumed = (Outcome("valid"), [])
    if resumed[0].kind != "valid":
        return Outcome("wrong", f"not resumed: {resumed[0].what}", resumed[0].place or "fit --resume")
    ended = sorted(runs.glob("*/result.json"))
    if len(ended) != 1:
        return Outcome("wrong", f"{len(ended)} runs have a result", "after a resume")
    found = unlike(whole, ended[0].parent)
    if finished and after_bytes is not None:
        # The limit held for the C compiler as well, which a run goes on without.
        found = [text for text in found if not text.endswith("lgn_net.so is missing")]
    if found:
        return Outcome("wrong", f"not as the whole run: {', '.join(found)}", "after a resume")
    return Outcome("refused" if killed.what in _KILLED else "valid")


def kills(count: int, first: int = 0) -> Tally:
    """So many kills of a run, half of them at an event and half of them in the bytes of a write."""
    whole, events = whole_run()
    tally = Tally("kills in writes of a run", "killed, resumed, the same bits", "ended before the kill")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        # Spread over the run, and not at random: few kills meet all kinds of files.
        number = 1 + int((seed * 0.618034 % 1) * len(events))
        after_bytes = chance.choice((0, 1, 100, 5_000)) if seed % 2 else None
        with temporary_folder() as folder:
            try:
                outcome = check_kill(whole, number, after_bytes, folder)
            except Exception as error:
                outcome = raised(error)
        how = "at" if after_bytes is None else f"{after_bytes} bytes after"
        tally.add(f"seed {seed}: killed {how} event {number} ({_short(events[number - 1])})", outcome)
    return tally


def _short(event: str) -> str:
    return event if len(event) < 60 else f"{event.partition(' ')[0]} …{event[-50:]}"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- the cache of native libraries -----------------------------------------------------------------------------------
_SOURCE: Final = (
    'extern "C" __attribute__((visibility("default"))) int add(int a, int b) { return a + b; }\n'
    + "".join(
        f'extern "C" __attribute__((visibility("default"))) int more_{i}(int a) {{ return a * {i}; }}\n'
        for i in range(200)
    )
)


def build_tiny(cache: str, number: int = 0, after_bytes: int | None = None) -> list[str]:
    """Builds a library of one small source in a cache of its own and calls it; the events that there were.

    The kernels themselves take minutes to compile; what is tested is how a library gets into the cache.
    """
    os.environ["LGN_CACHE_DIR"] = cache
    sources = Path(cache).parent / "sources"
    sources.mkdir(exist_ok=True)
    if not (sources / "tiny.cpp").is_file():
        (sources / "tiny.cpp").write_text(_SOURCE)
    writes = Writes(cache, number, after_bytes).install()
    plan = native_build.BuildPlan(
        "tiny",
        "tiny.so",
        sources,
        (sources,),
        (native_build.Unit("tiny.cpp", "tiny.o", ("-O0",)),),
        ("-shared",),
    )
    library = native_build.build(plan)
    if ctypes.CDLL(str(library)).add(2, 3) != 5:
        raise RuntimeError("the library computes something else")
    return writes.seen


def check_cache(change: Callable[[Path, Worker], Outcome | None], damaged: Sequence[bytes] = ()) -> Outcome:
    """Changes a cache in some way, then builds: the library must work, and be none of the ``damaged`` ones."""
    with temporary_folder() as folder:
        cache = folder / "cache"
        cache.mkdir()
        with Worker(build_tiny, 60) as worker:
            outcome = change(cache, worker)
        if outcome is not None:
            return outcome
        with Worker(build_tiny, 60) as worker:
            answer = worker(str(cache))
        if isinstance(answer, Outcome):
            return answer
        library = next(cache.rglob("*.so"))
        if damaged and library.read_bytes() == damaged[0]:
            return Outcome("wrong", "a changed library is loaded", "the cache")
        left = sorted(path.name for path in cache.glob("*.build-*"))
        return Outcome("wrong", f"left in the cache: {left}", "the cache") if left else Outcome("refused")


def cache_kills(count: int, first: int = 0) -> Tally:
    """So many kills while a library is put into the cache."""
    with temporary_folder() as folder, Worker(build_tiny, 60) as worker:
        (folder / "cache").mkdir()
        events = worker(str(folder / "cache"))
    if isinstance(events, Outcome):
        raise RuntimeError(events.what)
    tally = Tally("kills while a library is built", "killed, built again", "not killed")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        number, after_bytes = 1 + seed % len(events), chance.choice((0, 10)) if seed % 2 else None

        def killed(
            cache: Path, worker: Worker, number: int = number, after: int | None = after_bytes
        ) -> Outcome | None:
            answer = worker(str(cache), number, after)
            return answer if isinstance(answer, Outcome) and answer.what not in _KILLED and after is None else None

        tally.add(f"seed {seed}: {events[number - 1]}", check_cache(killed))
    return tally


def damaged_libraries(count: int, first: int = 0) -> Tally:
    """So many libraries in the cache that are cut, emptied or changed: found, and built anew."""
    tally = Tally("damaged libraries in the cache", "built anew", "as they were")
    for seed in range(first, first + count):
        chance = random.Random(seed)
        kind = ("emptied", "cut", "zeroed", "one byte changed", "a folder")[seed % 5]

        written: list[bytes] = []

        def damage(
            cache: Path,
            worker: Worker,
            kind: str = kind,
            chance: random.Random = chance,
            written: list[bytes] = written,
        ) -> Outcome | None:
            answer = worker(str(cache))
            if isinstance(answer, Outcome):
                return answer
            for library in cache.rglob("*.so"):
                data = bytearray(library.read_bytes())
                place = chance.randrange(len(data))
                if kind == "one byte changed":
                    data[place] ^= 0xFF
                library.unlink()
                if kind == "a folder":
                    library.mkdir()
                    continue
                wrong = {"emptied": b"", "cut": data[:place], "zeroed": bytes(len(data))}.get(kind, bytes(data))
                library.write_bytes(wrong)
                written.append(bytes(wrong))
            return None

        tally.add(f"seed {seed}: {kind}", check_cache(damage, written))
    return tally


def run(count: int, first: int = 0) -> list[Tally]:
    """So many kills, half as many of builds, and a fifth as many damaged libraries."""
    return [kills(count, first), cache_kills(count // 2, first), damaged_libraries(max(5, count // 5), first)]
