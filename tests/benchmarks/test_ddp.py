"""The figures that the benchmark of data-parallel training makes of its measurements."""

import pytest

from tests.benchmarks.script import load


def test_ratios_are_of_one_round_and_count_the_samples_of_all_processes() -> None:
    ddp = load("ddp")
    rounds = [{ddp.ALONE: 0.1, "ddp": 0.2}, {ddp.ALONE: 0.1, "ddp": 0.125}, {ddp.ALONE: 0.3, "ddp": 0.3}]
    alone, both = ddp.summarize(rounds, batch=100, processes=2)
    assert alone["samples_per_second"] == pytest.approx(1000)
    assert alone["ratio"] == 1
    assert both["samples_per_second"] == pytest.approx(1000)
    assert both["ratio"] == pytest.approx(1.6)
    assert both["ratio_range"] == pytest.approx([1.0, 2.0])
    assert "| ddp | 200.0 | 1,000 | 1.60 | 1.00–2.00 |" in ddp.table([alone, both])


def test_every_variant_is_what_torch_takes() -> None:
    ddp = load("ddp")
    for name in (ddp.TABLES, ddp.SOCKETS):
        assert ddp.VARIANTS[name] is None
        net = ddp.parallel(ddp.make_net("S", "softmax"), name)
        assert all(layer.table_hook is not None for layer in net[:-1])
