"""Downloads that leave nothing half-written: into a staging folder beside the place, then renamed file by file."""

import getpass
import hashlib
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from lgn_lightning.base.errors import DataError, some

# torchvision opens connections without a timeout: a firewall that drops packets would hang the run for minutes
TIMEOUT_SECONDS = 30.0


def missing_data(name: str, root: Path, files: Sequence[str]) -> DataError:
    """The error for a data set that is not there."""
    return DataError(
        f"{name}: not found in {root.absolute()} (missing: {some(files, 2) or 'the data set'}). Run once "
        f"with network access and download=true, or point data.root (or the environment variable LGN_DATA_ROOT) at a "
        "folder that holds these files"
    )


def corrupt_file(name: str, path: Path, reason: str) -> DataError:
    """The error for a damaged file of a data set."""
    return DataError(
        f"{name}: {path.absolute()} is corrupt: {reason}. Delete it and run again with network access and "
        "download=true, or replace it by a good copy"
    )


def download_files(
    name: str, root: Path, missing: Callable[[], Sequence[str]], fetch: Callable[[Path], object]
) -> None:
    """Brings the missing files of a data set to their places, or none of them.

    ``missing`` returns them as paths relative to ``root``, which is made; ``fetch`` downloads the data set to the
    folder it is given, in the same layout. If a folder cannot be written or the download fails, that is a DataError.
    """
    made = _first_missing_parent(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # several runs may start at once: the first one downloads, the others wait and find the files
        with _download_lock(root), tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            files = missing()
            if files:
                with _socket_timeout(TIMEOUT_SECONDS):
                    fetch(Path(folder))
                for file in files:
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / file).replace(root / file)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: could not download to {root.absolute()} ({reason}). Check the network and that the folder is "
            "writable, or point data.root (or the environment variable LGN_DATA_ROOT) at a folder that holds "
            f"{some(missing(), 2) or 'the data set'}"
        ) from error
    finally:
        if made is not None:
            _remove_empty(root, made)


def _download_lock(root: Path) -> FileLock:
    """A lock per data folder and user. Outside the folder: removing a lock file that others wait for unlocks it."""
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"lgn-download-{getpass.getuser()}-{key}.lock")


def _first_missing_parent(path: Path) -> Path | None:
    """The outermost folder that ``path.mkdir(parents=True)`` would make."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    return missing[-1] if missing else None


def _remove_empty(path: Path, top: Path) -> None:
    """Removes ``path`` and its parents up to ``top`` as far as they are empty."""
    for folder in (path, *path.parents):
        try:
            folder.rmdir()
        except OSError:
            return
        if folder == top:
            return


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
