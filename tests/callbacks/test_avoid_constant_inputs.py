"""Wires of the first layer that read constant inputs."""

from __future__ import annotations

from pathlib import Path

import callback_toy as toy
import pytest
import torch
from wire_toy import SHAPE, Framed, fit, net

from lgn_lightning.callbacks import AvoidConstantInputs
from lgn_lightning.callbacks.avoid_constant_inputs import avoid, bit_frequencies
from lgn_lightning.models import MLP
from lgn_lightning.nn import LogicLayer, LutLayer, Threshold, logic_layers


def test_bits_are_counted_as_the_encoder_gives_them() -> None:
    images = torch.randint(0, 256, (4500, 1, 2, 3), dtype=torch.uint8)
    encoder = Threshold([0.25, 0.75], (1, 2, 3))
    expected = torch.cat([(images.flatten(1) > level).double().mean(0) for level in encoder.levels])
    torch.testing.assert_close(bit_frequencies(encoder, images), expected)


def test_wires_move_to_allowed_inputs_evenly_and_the_others_stay() -> None:
    wires = torch.arange(60, dtype=torch.int32).remainder(6).view(10, 2, 3)
    before, allowed = wires.clone(), torch.tensor([1, 4, 5])
    assert avoid((wires,), allowed, torch.Generator()) == 30
    kept = torch.isin(before, allowed)
    assert torch.equal(wires[kept], before[kept])
    assert torch.equal(torch.bincount(wires[~kept].long()), torch.tensor([0, 10, 0, 0, 10, 10]))
    assert avoid((wires,), allowed, torch.Generator()) == 0


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_no_wire_of_the_first_layer_reads_a_constant_pixel(tmp_path: Path, connections: str) -> None:
    data = Framed(SHAPE)
    model = net(data, connections)
    fit(tmp_path, model, data, AvoidConstantInputs(), max_steps=1)
    first, second = logic_layers(model).values()
    wires = torch.stack(first.indices) if connections == "random" else first.learned.candidates  # type: ignore[union-attr,arg-type]
    rows = wires // 4
    assert int(rows.min()) == 1
    read = torch.stack(second.indices) if connections == "random" else second.learned.candidates  # type: ignore[union-attr,arg-type]
    assert len(read.unique()) == second.in_dim


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_lookup_tables_avoid_them_too(tmp_path: Path, connections: str) -> None:
    data = Framed(SHAPE)
    model = net(data, connections, arity=4)
    fit(tmp_path, model, data, AvoidConstantInputs(), max_steps=1)
    first = model[1]
    assert isinstance(first, LutLayer)
    wires = first.settled_indices() if first.learned is None else first.learned.candidates
    assert int(wires.min()) >= 4  # the first row of 5×4 pixels is black


def test_bits_of_edges_that_are_constant_are_avoided(tmp_path: Path) -> None:
    data = Framed(SHAPE)
    model = net(data, thresholds=[0.3, 0.6], edges=[0])
    fit(tmp_path, model, data, AvoidConstantInputs(), max_steps=1)
    first = model[3]
    assert isinstance(first, LogicLayer)
    assert first.learned is not None
    above = torch.arange(first.in_dim).view(-1, *SHAPE[1:])[2 + 2]  # whether the upper neighbour is darker
    assert torch.isin(first.learned.candidates, above[1]).any()  # it is black, over the second row
    assert not torch.isin(first.learned.candidates, above[0]).any()


def test_avoiding_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = Framed(SHAPE)
    with pytest.raises(ValueError, match=r"it is a share in \[0, 0.5\)"):
        AvoidConstantInputs(rare=0.5)
    with pytest.raises(ValueError, match="starts with Intensity, Linear; leave the callback out"):
        fit(tmp_path, MLP(data.image_shape, data.num_classes, 4, 2), data, AvoidConstantInputs())
    with pytest.raises(ValueError, match="input bits of the net are constant"):
        fit(tmp_path, net(data, thresholds=[0.9999]), data, AvoidConstantInputs())
    trainer = toy.trainer(tmp_path, AvoidConstantInputs())
    with pytest.raises(ValueError, match="ImageDataModule"):
        trainer.fit(toy.module(), toy.loader())
