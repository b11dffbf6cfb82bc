"""``lgn doctor``: the facts as a table and as JSON."""

import json

import pytest
import torch

from lgn_lightning.cli.main import main


def test_doctor_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["torch"] == torch.__version__.split("+")[0]
    assert main(["doctor"]) == 0
    assert "backend" in capsys.readouterr().out
