"""Which code made a result: the commit of the working tree that the package was imported from."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

#: Paths of the repository that a result depends on.
_CODE: Final = ("lgn_lightning", "callbacks", "ext", "recipes", "pyproject.toml")


def source_version() -> str:
    """Names the code that runs: commit, 10 digits, with ``+changes`` if files differ; or the package's version."""
    top = Path(__file__).resolve().parents[2]
    tracked = _git(top, "ls-files", "--error-unmatch", str(Path(__file__).resolve()))
    commit = _git(top, "rev-parse", "--short=10", "HEAD")
    if not tracked or not commit:
        return f"lgn-lightning {version('lgn-lightning')}"
    return commit + ("+changes" if _git(top, "status", "--porcelain", "--", *_CODE) else "")


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
