"""The pipeline that is chosen for a clock, by stand-ins of the tools whose clocks are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from lgn_lightning.circuit import emit_verilog, optimize_for_export
from lgn_lightning.deploy.fpga import search as module
from lgn_lightning.deploy.fpga.devices import DEVICES
from lgn_lightning.deploy.fpga.implement import Cells, DoesNotFitError
from lgn_lightning.deploy.fpga.search import PIPELINES, Bench, plans, search
from lgn_lightning.deploy.fpga.tools import Progress, Tool
from tests.circuit.emit.test_axi_stream import row_circuit
from tests.circuit.random_circuits import random_circuit

CIRCUIT = optimize_for_export(random_circuit(2, 30, 400, 4, 40))[0]
DEVICE = DEVICES["ice40-hx8k"]


def bench_of(folder: Path, monkeypatch: pytest.MonkeyPatch, factor: float) -> tuple[Bench, list[tuple[int, ...]]]:
    """Tools whose clock period is that of the model, times a factor."""
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(module, "synthesise", lambda *_: (Cells(1, 1, 0), Cells(1, 1, 0)))

    def placed(device: object, tool: object, own: Path, seeds: list[int], *_: object) -> dict[int, float]:
        pipeline = int(own.name.removeprefix("pipeline_"))
        calls.append((pipeline, *seeds))
        period = plans(CIRCUIT, DEVICE, [pipeline])[0].nanoseconds * factor
        return {seed: 1000 / period + seed / 1000 for seed in seeds}

    monkeypatch.setattr(module, "place_and_route", placed)
    tool = Tool("yosys", (), "0")
    return Bench(CIRCUIT, DEVICE, tool, tool, folder, 10, Progress()), calls


def test_shorter_stages_are_deeper_pipelines() -> None:
    known = plans(CIRCUIT, DEVICE, (1, 2, 4, 8, 16, 0))
    assert [own.levels for own in known[:4]] == [1, 2, 4, 8]
    assert [own.stages for own in known] == sorted((own.stages for own in known), reverse=True)
    assert [own.nanoseconds for own in known] == sorted(own.nanoseconds for own in known)
    assert known[-1].stages == 1
    assert known[0].stages == known[-1].levels
    for own in known[:-1]:
        assert emit_verilog(CIRCUIT, name="net", pipeline=own.pipeline, luts="ice40").latency == own.stages


def test_comparators_of_columns_are_a_stage_of_their_own() -> None:
    circuit = row_circuit()
    for own in plans(circuit, DEVICE, (1, 3)):
        assert emit_verilog(circuit, name="net", pipeline=own.pipeline, luts="ice40").latency == own.stages


@pytest.mark.parametrize("factor", [1.0, 0.7, 1.5])
def test_the_longest_stages_that_reach_the_clock_are_found(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, calls = bench_of(tmp_path, monkeypatch, factor)
    clock = 120.0
    best, tried = search(bench, clock, (1, 2, 3))
    assert best.fastest >= clock
    assert set(best.mhz) == {1, 2, 3}
    assert [own for own in tried if own.pipeline > best.pipeline and own.fastest >= clock] == []
    reached = [own.levels for own in plans(CIRCUIT, DEVICE, PIPELINES) if 1000 / clock >= factor * own.nanoseconds]
    assert best.levels == max(reached)
    assert len(calls) <= 5


def test_a_clock_that_nothing_reaches_gives_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _ = bench_of(tmp_path, monkeypatch, 1.0)
    best, tried = search(bench, 2000, (1,))
    assert best.fastest < 2000
    assert best.fastest == max(own.fastest for own in tried)


@pytest.mark.parametrize(("clock", "least"), [(120.0, 5), (2000.0, 3)])
def test_pipelines_whose_registers_do_not_fit_give_way_to_longer_stages(
    clock: float, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the model names one of these, or the search comes to it from longer stages that miss the clock."""
    bench, calls = bench_of(tmp_path, monkeypatch, 1.5)
    refused: list[int] = []

    def synthesise(design: object, device: object, tool: object, own: Path, *_: object) -> tuple[Cells, Cells]:
        if (pipeline := int(own.name.removeprefix("pipeline_"))) < least:
            refused.append(pipeline)
            raise DoesNotFitError("1,212 registers", in_longer_stages=True)
        return Cells(1, 1, 0), Cells(1, 1, 0)

    monkeypatch.setattr(module, "synthesise", synthesise)
    best, tried = search(bench, clock, (1, 2))
    assert best.fastest == max(own.fastest for own in tried)
    assert set(best.mhz) == {1, 2}
    assert min(own.pipeline for own in tried) == least
    assert min(pipeline for pipeline, *_ in calls) == least
    assert max(refused) == least - 1


def test_a_design_that_fits_in_no_pipeline_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, calls = bench_of(tmp_path, monkeypatch, 1.0)
    for in_longer_stages in (True, False):
        error = DoesNotFitError("too large", in_longer_stages)

        def synthesise(*_: object, error: DoesNotFitError = error) -> tuple[Cells, Cells]:
            raise error

        monkeypatch.setattr(module, "synthesise", synthesise)
        with pytest.raises(DoesNotFitError, match="too large"):
            search(bench, 2000, (1, 2))
    assert not calls


def test_what_cannot_fit_is_said_before_synthesis(tmp_path: Path) -> None:
    tool = Tool("yosys", ("false",), "0")
    large = optimize_for_export(random_circuit(2, 60, 6000, 4, 800))[0]
    bench = Bench(large, DEVICES["ice40-hx1k"], tool, tool, tmp_path, 10, Progress())
    with pytest.raises(DoesNotFitError, match="by our estimate, of 1,280 that ice40-hx1k has"):
        bench.implement(4, (1,), None)
    assert not list(tmp_path.iterdir())
