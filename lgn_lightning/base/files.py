"""Atomic writes: what is written lies beside its place and is renamed into it, so a crash leaves the old or none.

A power cut, too: what is renamed is on the disk by then, and so is the new name when a write returns.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lgn_lightning.base.programs import postponed_signals


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot be asked
            raise
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` if the block ends without an exception.

    It has the same suffix, and the block must leave a file there. Missing parent folders are made; an OSError names the
    folder that cannot be made or written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private to the user, and the umask cannot be read without changing it.
        temporary = target.parent / f".{target.stem}.{secrets.token_hex(4)}{target.suffix}"
        temporary.touch(exist_ok=False)
    except OSError as error:
        what = f"cannot write to folder {target.parent} ({error.strerror or error}); choose a writable one"
        raise type(error)(error.errno, what) from error
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
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

    A link to a folder stays one. Missing parent folders are made; an OSError if that cannot be.
    """
    folder = Path(path).resolve()
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    new = temporary / "new"
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            sync(path)
        with postponed_signals():  # between the two names there is no folder
            _exchange(folder, new, temporary / "old")
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Puts a new folder in the place of one, which becomes ``old``; what was there stays there after an OSError."""
    with suppress(FileNotFoundError):
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        with suppress(FileNotFoundError):
            old.rename(folder)
        raise
