"""Atomic writes: what is written lies beside its place and is renamed into it, so a crash leaves the old or none."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` if the block ends without an exception.

    Args:
        path: The file to write. Missing parent folders are made.

    Yields:
        The temporary path, with the same suffix; the block must leave a file there.

    Raises:
        OSError: If the folder cannot be made or written; the message names it.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private to the user, and the umask cannot be read without changing it.
        temporary = target.parent / f".{target.stem}.{secrets.token_hex(4)}{target.suffix}"
        temporary.touch(exist_ok=False)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(
            error.errno, f"cannot write to folder {target.parent} ({reason}); choose a writable one"
        ) from error
    try:
        yield temporary
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` to ``path`` atomically, as UTF-8 with Unix line ends."""
    atomic_write_bytes(path, text.encode())


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder that takes the place of the folder ``path`` if the block ends without an exception.

    Args:
        path: The folder to make or to replace. A link to a folder stays one. Missing parent folders are made.

    Raises:
        OSError: If the folder cannot be made.
    """
    folder = Path(path).resolve()
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    new = temporary / "new"
    new.mkdir(parents=True)
    try:
        yield new
        with suppress(FileNotFoundError):
            folder.rename(temporary / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
