"""Compiles native libraries with ninja, once for each set of sources, flags and compiler.

Without torch: the circuit library has nothing to do with it, and is there in no time where torch is not imported.
"""

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from filelock import FileLock, Timeout

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_text, sync
from lgn_lightning.base.programs import run

_COMPILERS = ("g++", "c++", "clang++")
_FLAGS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
#: Without warnings, and g++ without collecting garbage below 1 GB, a fifteenth of its time; clang ignores that.
_HOST_FLAGS = (*_FLAGS, "-w", "--param", "ggc-min-heapsize=1000000")
_NVCC_FLAGS = ("-std=c++20", "-O3", "-w", "-Xcompiler=-fPIC,-fvisibility=hidden")


class BuildError(LgnError):
    """A native library cannot be built; the message says why and what to do."""


@dataclass(frozen=True)
class Unit:
    """One compilation: a source file (nvcc takes ``.cu``), the object it gives and the flags of its own."""

    source: str
    object: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """All that a build depends on but the host's compiler, which is looked for when it is needed.

    Attributes:
        kind: What the kernels are for, for messages.
        library: File name of the result.
        sources: Folder that the units' sources are relative to.
        hashed: Folders whose sources and headers the key depends on.
        units: What to compile.
        link_flags: Flags of the last step.
        nvcc: Path of the CUDA compiler, if there are units for it.
        versions: What else the key depends on.
    """

    kind: str
    library: str
    sources: Path
    hashed: tuple[Path, ...]
    units: tuple[Unit, ...]
    link_flags: tuple[str, ...]
    nvcc: str | None = None
    versions: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Hash of sources, flags, compiler and versions: the name of the build folder.

        Raises:
            BuildError: If there is no compiler.
        """
        _, version = find_compiler()
        return self._hash(repr(self.units), repr(self.link_flags), version)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of sources and versions alone: what a library that a wheel carries has to agree with."""
        return self._hash(*(unit.object for unit in self.units))

    def _hash(self, *texts: str) -> str:
        digest = hashlib.sha256()
        for path in (path for folder in self.hashed for path in sorted(folder.iterdir())):
            if path.suffix in (".cpp", ".h", ".cu", ".cuh"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        for text in (*texts, *self.versions, platform.machine()):
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()[:20]


@cache
def _compiler_version(path: str) -> str:
    result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"the C++ compiler {path} does not run: {result.stderr.strip() or result.returncode}")
    return result.stdout


def find_compiler() -> tuple[str, str]:
    """Finds the C++ compiler, ``$CXX``, else g++, c++ or clang++, and its version; else a BuildError."""
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else _COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path, _compiler_version(path)
    if asked:
        raise BuildError(f"CXX={asked} is not a program; unset CXX or name a C++ compiler (g++ ≥ 11 or clang++)")
    raise BuildError("no C++ compiler found (g++, clang++); install g++ ≥ 11 or clang, or set CXX")


def find_ninja() -> str:
    """Finds ninja on the path, or beside the interpreter of an environment not activated; else a BuildError."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    path = shutil.which("ninja") or shutil.which("ninja", path=beside)
    if path is None:
        raise BuildError("ninja is missing; install it with: pip install ninja")
    return path


def cache_roots() -> list[Path]:
    """Folders that may hold builds: ``$LGN_CACHE_DIR`` or the user's cache folder, then a temporary one."""
    asked = os.environ.get("LGN_CACHE_DIR")
    if asked:
        preferred = Path(asked).expanduser().absolute()
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        try:
            preferred = (Path(base) if base else Path.home() / ".cache") / "lgn_lightning"
        except RuntimeError:  # no home folder
            return [_temporary_root()]
    return [preferred, _temporary_root()]


def carried_folder() -> Path:
    """Where a wheel of ``make wheel`` has libraries, in folders named by their fingerprints."""
    return Path(str(files("lgn_lightning"))) / "prebuilt"


def _temporary_root() -> Path:
    return Path(tempfile.gettempdir()) / f"lgn_lightning-{os.getuid()}"


def find_library(plan: BuildPlan) -> Path | None:
    """Gives the library of a plan if the wheel or a cache folder has it; BuildError if others can write there."""
    carried = carried_folder() / plan.fingerprint / plan.library
    if carried.is_file() and _is_whole(carried):
        return carried
    for root in cache_roots():
        library = root / plan.key / plan.library
        if not library.is_file():
            continue
        fault = next((fault for path in (root, library.parent, library) if (fault := _fault(path))), None)
        if fault is None and _is_whole(library):
            return library
        if fault is not None and root != _temporary_root():  # anybody can put a folder there
            raise BuildError(fault)
    return None


def _fault(path: Path) -> str | None:
    """Says why code of this file or folder is not loaded: others can have written it. The administrator is trusted."""
    info = path.stat()
    if info.st_uid not in (os.getuid(), 0):
        mend = f"chown -R {os.getuid()}"
        reason = "belongs to another user"
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mend = "chmod -R go-w"
        reason = "can be written by others"
    else:
        return None
    return f"{path} {reason}: no native code is loaded from there; {mend} {path}, or set LGN_CACHE_DIR"


def _note(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(library: Path) -> str:
    return f"{library.stat().st_size} {hashlib.sha256(library.read_bytes()).hexdigest()}\n"


def _is_whole(library: Path) -> bool:
    """Whether a library is what was built: loading part of one ends the process without a word."""
    return _note(library).is_file() and _note(library).read_text(errors="replace") == _digest(library)


def _writable_root() -> Path:
    problems: list[str] = []
    for root in cache_roots():
        try:
            temporary = root == _temporary_root()
            root.mkdir(parents=True, exist_ok=True, mode=0o700 if temporary else 0o755)
            fault = _fault(root)
            if fault is not None and not temporary:
                raise BuildError(fault)
            if fault is not None:
                problems.append(fault)
                continue
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            problems.append(f"{root}: {error.strerror or error}")
            continue
        if problems:
            say(f"cannot write to the cache folder ({'; '.join(problems)}); building in {root} instead")
        return root
    raise BuildError(f"no folder to build in ({'; '.join(problems)}); set LGN_CACHE_DIR to a writable one")


def say(message: str) -> None:
    """Tells the user on stderr."""
    print(f"lgn-lightning: {message}", file=sys.stderr, flush=True)


def build(plan: BuildPlan, verbose: bool = False) -> Path:
    """Builds the library of a plan unless it is there, and gives its path.

    Processes that start together make one build: the others wait for it. A build happens in a folder of its own and is
    renamed into place, so a killed one leaves nothing that is ever used; the next build removes it. Size and digest lie
    beside the library; one that does not fit them is built anew. A BuildError if the compiler fails, no folder can be
    written, or others can write to the cache folder.
    """
    library = find_library(plan)
    if library is not None:
        return library
    root = _writable_root()
    with _locked(root / f"{plan.key}.lock"):
        library = root / plan.key / plan.library
        if library.is_file() and _is_whole(library):  # of another process, by now
            return library
        for stale in root.glob(f"{plan.key}.build-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{plan.key}.build-", dir=root))
        try:
            _compile(plan, folder, verbose)
            library.parent.mkdir(exist_ok=True, mode=0o755)
            made = folder / plan.library
            for path in (library, _note(library)):
                if path.is_dir():
                    shutil.rmtree(path)
            made.chmod(made.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
            atomic_write_text(_note(library), _digest(made))
            sync(made)
            made.replace(library)
            sync(library.parent)
        except OSError as error:
            raise BuildError(
                f"cannot build in {root}: {error.strerror or error} ({error.filename}); remove that, or set "
                "LGN_CACHE_DIR to another folder"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return library


def copy_library(library: Path, plan: BuildPlan, folder: Path) -> None:
    """Copies a library and its digest to where a wheel takes them along from; see `carried_folder`."""
    target = folder / plan.fingerprint
    target.mkdir(parents=True, exist_ok=True)
    for path in (library, _note(library)):
        shutil.copy2(path, target / path.name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # An OS lock: it ends with its process, however that ends, so nobody ever has to remove another's.
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        say("waiting for another process that is building the native kernels")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _compile(plan: BuildPlan, folder: Path, verbose: bool) -> None:
    say(f"building the {plan.kind} kernels, once for this version, in {folder.parent / plan.key}")
    started = time.monotonic()
    (folder / "build.ninja").write_text(ninja_file(plan))
    command = [find_ninja(), "-C", str(folder), *(["-v"] if verbose else [])]
    jobs = os.environ.get("MAX_JOBS")
    if jobs:
        command += ["-j", jobs]
    result = run(command, stderr=subprocess.STDOUT)
    if verbose:
        sys.stderr.write(result.stdout)
    if result.returncode != 0:
        errors = [line for line in result.stdout.splitlines() if "error" in line.lower()] or result.stdout.splitlines()
        compiler = find_compiler()[0] if plan.nvcc is None else f"{plan.nvcc} with {find_compiler()[0]}"
        raise BuildError(
            f"building the {plan.kind} kernels failed:\n  " + "\n  ".join(errors[:8]) + "\n"
            f"compiler: {compiler} (g++ ≥ 11 or clang is needed; set CXX to choose); lgn build --verbose shows all"
        )
    say(f"built in {time.monotonic() - started:.0f} s")


def ninja_file(plan: BuildPlan) -> str:
    """Writes the build as ninja wants it."""

    def escape(path: object) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    compiler, _ = find_compiler()

    def shell(words: tuple[str, ...]) -> str:
        return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words).replace("$", "$$")

    lines = [
        "ninja_required_version = 1.3",
        f"cxx = {shell((compiler,))}",
        "rule compile",
        f"  command = $cxx {shell(('-iquote', str(plan.sources)))} $flags -c $in -o $out",
        "rule link",
        "  command = $cxx $in -o $out $flags",
    ]
    if plan.nvcc is not None:
        lines += ["rule device", f"  command = {shell((plan.nvcc, '-ccbin', compiler))} $flags -c $in -o $out"]
    for unit in plan.units:
        rule, common = ("device", _NVCC_FLAGS) if unit.source.endswith(".cu") else ("compile", _HOST_FLAGS)
        lines.append(f"build {unit.object}: {rule} {escape(plan.sources / unit.source)}")
        lines.append(f"  flags = {shell((*common, *unit.flags))}")
    lines.append(f"build {plan.library}: link {' '.join(unit.object for unit in plan.units)}")
    lines += [f"  flags = {shell(plan.link_flags)}", f"default {plan.library}", ""]
    return "\n".join(lines)
