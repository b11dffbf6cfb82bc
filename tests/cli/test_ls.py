"""``lgn ls``: names that can be copied."""

import json

import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import recipe_files


def test_ls_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json"]) == 0
    assert "mnist20x20" in [recipe["name"] for recipe in json.loads(capsys.readouterr().out)]
    assert main(["ls"]) == 0
    assert "mnist20x20" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("terminal", [True, False])
def test_ls_never_cuts_a_name(
    width: int, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    assert main(["ls"]) == 0
    words = capsys.readouterr().out.split()
    assert {path.stem for path in recipe_files()} <= set(words)
    assert ("│" in words) == (terminal and width == 80)
