"""Where a circuit comes from."""

from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import Circuit, LoopedCircuit
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.trial import hard_counts, random_samples
from tests.circuit.random_circuits import image_circuit
from tests.circuit.random_conv_nets import tree_net


def test_a_circuit_file_has_no_net(tmp_path: Path) -> None:
    image_circuit().save(tmp_path / "net.lgn")
    source = read_source(tmp_path / "net.lgn")
    assert (source.path, source.circuit, source.net) == (tmp_path / "net.lgn", image_circuit(), None)
    assert source.flat is source.circuit
    with pytest.raises(LgnError, match="without loops"):
        read_source(tmp_path / "net.lgn", form="loops")


def test_loops_of_a_circuit_file_stay_unless_asked_otherwise(tmp_path: Path) -> None:
    looped = LoopedCircuit.from_module(tree_net())
    looped.save(tmp_path / "net.lgn")
    assert read_source(tmp_path / "net.lgn").circuit == looped
    assert read_source(tmp_path / "net.lgn").flat == looped.unroll()
    assert isinstance(read_source(tmp_path / "net.lgn", form="code").circuit, Circuit)
    assert isinstance(read_source(tmp_path / "net.lgn", formats=("verilog",)).circuit, Circuit)


def test_a_run_gives_its_net_and_what_its_checkpoint_knows(digits_run: Path) -> None:
    source = read_source(digits_run)
    assert source.path == digits_run / "checkpoints" / "best.ckpt"
    assert source.net is not None
    assert source.circuit.class_names == tuple("0123456789")
    pixels = random_samples(source.circuit, 100)
    assert np.array_equal(source.circuit.scores(pixels), hard_counts(source.circuit, source.net, pixels))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(LgnError, match="there is no file or folder"):
        read_source(tmp_path / "none.ckpt")
