"""Finds a C compiler and builds shared libraries, atomically."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_path
from lgn_lightning.base.programs import run

#: Tried in this order when no compiler is named and the variable CC is not set.
COMPILERS = ("cc", "gcc", "clang")


class CompilerError(LgnError):
    """There is no C compiler, or it refused the source."""


def find_compiler(name: str | None = None) -> list[str]:
    """Finds a C compiler, by default the variable CC, else cc, gcc or clang, as words; else a CompilerError."""
    wanted = [name] if name else [os.environ["CC"]] if os.environ.get("CC") else list(COMPILERS)
    for command in wanted:
        words = shlex.split(command)
        if words and (path := shutil.which(words[0])):
            return [path, *words[1:]]
    raise CompilerError(
        f"no C compiler: {', '.join(wanted)} not found on PATH; install gcc or clang (Debian: apt-get install gcc), "
        "or name one with the environment variable CC"
    )


def compile_library(
    source: str | os.PathLike[str],
    library: str | os.PathLike[str],
    *,
    compiler: str | None = None,
    opt_level: int = 1,
    flags: Sequence[str] = (),
    shared: bool = True,
) -> list[str]:
    """Compiles a C file into a shared library, or a program, written beside and renamed; returns the command.

    ``compiler`` as in `find_compiler`; ``opt_level`` is 0 to 3. A CompilerError, with its first messages, if there is
    none or it fails; an OSError if the folder cannot be written.
    """
    if opt_level not in (0, 1, 2, 3):
        raise CompilerError(f"opt_level must be 0, 1, 2 or 3, got {opt_level!r}")
    kind = ["-shared", "-fPIC"] if shared else []
    command = [*find_compiler(compiler), "-std=c99", f"-O{opt_level}", *kind, *flags]
    with atomic_path(library) as temporary:
        command += ["-o", str(temporary), str(source)]
        result = run(command)
        if result.returncode:
            head = "\n".join(result.stderr.splitlines()[:20])
            raise CompilerError(f"{shlex.join(command)} failed with exit code {result.returncode}:\n{head}")
    return command


def compile_source(code: str, library: str | os.PathLike[str], **options: object) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        source = Path(folder) / "net.c"
        source.write_text(code, encoding="utf-8")
        return compile_library(source, library, **options)  # type: ignore[arg-type]
