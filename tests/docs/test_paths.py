"""Files that the pages name are there, and Contributing says of every kind of part where it goes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_links import PAGES, ROOT, text_of

#: Where a path of a page may begin.
BASES = ("", "lgn_lightning/", "lgn_lightning/circuit/", "lgn_lightning/*/")
_FILE = re.compile(r"`((?:(?:[\w-]+|<[^>`]+>)/)*[\w-]+\.(?:py|h|cpp|cuh?|yaml))`")
_ROW = re.compile(r"^\| ([^|]+?) \| ([^|]*?) ?\|$", re.M)


def found(path: str) -> bool:
    """Whether files of this name are there; ``X`` and ``<data set>`` are any name."""
    pattern = re.sub(r"<[^>]+>|(?<![A-Za-z])X(?![a-z])", "*", path)
    return any(True for base in BASES for _ in ROOT.glob(base + pattern))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_named_files_are_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("names what was")
    missing = [path for path in _FILE.findall(text_of(page)) if "/" in path and not found(path)]
    assert not missing


def test_contributing_says_where_things_go() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where things go")[2]
    rows = dict(_ROW.findall(table)[1:])
    assert rows.keys() >= {
        "op on CPU and CUDA",
        "layer of gates",
        "loss",
        "data set",
        "export target",
        "callback",
        "command",
    }
    assert [what for what, files in rows.items() if not _FILE.search(files)] == []
