"""A run and its report, made once for all tests of the report."""

import json
import re
from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.data import Digits, ImageSet


@pytest.fixture(scope="session")
def run(digits_run: Path) -> Path:
    """The folder of a run, with its report."""
    assert main(["report", str(digits_run)]) == 0
    return digits_run


@pytest.fixture(scope="session")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def test_split() -> ImageSet:
    return Digits().test_samples()


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])


def cells(page: str, table: str) -> list[list[str]]:
    text = re.search(rf'<table id="{table}">(.*?)</table>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]


def strict_parse(page: str) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    html5lib.HTMLParser(strict=True).parse(page)
