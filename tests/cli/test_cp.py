"""``lgn cp``: copies that the next command takes."""

from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe
from tests.cli.conftest import SMALL, error_of


def test_cp_writes_a_recipe_that_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cp", "digits", "mine.yaml"]) == 0
    assert "lgn fit mine.yaml" in capsys.readouterr().out
    assert main(["fit", "mine.yaml", *SMALL, "--trainer.fast_dev_run=true"]) == 0


@pytest.mark.parametrize("name", ["noext", "my.v2"])
def test_cp_writes_a_name_that_the_next_command_takes(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cp", "digits", name]) == 0
    assert f"lgn fit {name}.yaml" in capsys.readouterr().out
    assert find_recipe(f"{name}.yaml").is_file()
    assert main(["cp", "digits", name]) == 1
    assert f"{name}.yaml exists already" in error_of(capsys)
