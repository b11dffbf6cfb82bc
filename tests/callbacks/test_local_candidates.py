"""Candidates that lie near each other in the image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import callback_toy as toy
import pytest
import torch
from torch import nn
from wire_toy import SHAPE, Framed, fit, net

from lgn_lightning.callbacks import AvoidConstantInputs, LocalCandidates, RefreshCandidates
from lgn_lightning.callbacks.local_candidates import draw, find_near
from lgn_lightning.models import MLP, LogicTreeNet
from lgn_lightning.nn import (
    GroupSum,
    LearnedConnections,
    LogicConcat,
    LogicLayer,
    LogicSequential,
    Threshold,
    logic_layers,
)


def points(height: int, width: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(height), torch.arange(width))


@pytest.mark.parametrize("arity", [2, 4])
def test_candidates_are_the_inputs_near_a_gate(arity: int) -> None:
    at, gates = points(6, 7), points(6, 7).repeat(3, 1)
    learned = LearnedConnections(len(at), len(gates), 4, arity=arity)
    draw(learned, find_near(1, 4, torch.arange(len(at)), at, gates), torch.Generator().manual_seed(0))
    distance = (at[learned.candidates.long()] - gates[:, None, None]).abs().amax(-1)
    assert int(distance.max()) == 1
    assert all(len(set(row)) == 4 for row in learned.candidates.flatten(0, 1).tolist())
    read = torch.bincount(learned.candidates.flatten().long(), minlength=len(at))
    assert int(read.min()) > 0


def test_the_distance_grows_where_few_inputs_are_near() -> None:
    at = points(1, 9)
    learned = LearnedConnections(9, 1, 4)
    draw(learned, find_near(0, 4, torch.arange(9), at, torch.tensor([[0, 8]])), torch.Generator())
    assert learned.candidates.sort().values.tolist() == [[[5, 6, 7, 8]] * 2]


def first_two(model: Any) -> list[LearnedConnections]:
    return [layer.learned for layer in logic_layers(model).values()][:2]  # type: ignore[misc]


@pytest.mark.parametrize("thresholds", [[0.5], [0.3, 0.6]])
def test_gates_of_all_layers_have_places(tmp_path: Path, thresholds: list[float]) -> None:
    data = Framed(SHAPE)
    model = net(data, thresholds=thresholds)
    fit(tmp_path, model, data, AvoidConstantInputs(), LocalCandidates([1, 1], seed=3), max_steps=1)
    first, second = first_two(model)
    pixels = points(*SHAPE[1:])[first.candidates.long() % 20]  # of all bits
    assert int(pixels[..., 0].min()) == 1  # the first row is black
    assert spread(first) <= 2
    middle = (pixels.amax((1, 2)) + pixels.amin((1, 2))).double() / 2
    # what a gate of the second layer reads is, at most, one pixel from its own place
    seen = middle[second.candidates.long()]
    assert float((seen.amax((1, 2)) - seen.amin((1, 2))).max()) <= 4
    far = net(data, thresholds=thresholds)
    fit(tmp_path, far, data, AvoidConstantInputs(), max_steps=1)
    assert spread(first_two(far)[0]) > 2


def spread(learned: LearnedConnections) -> int:
    """How far apart the pixels are that a gate of the first layer has as candidates."""
    pixels = points(*SHAPE[1:])[learned.candidates.long() % 20]
    return int((pixels.amax((1, 2)) - pixels.amin((1, 2))).max())


def test_refreshed_candidates_are_near_too(tmp_path: Path) -> None:
    data, model = Framed(SHAPE), net(Framed(SHAPE), thresholds=[0.3, 0.6])
    refresh = RefreshCandidates(every_n_steps=1, count=3, until=1.0)
    fit(tmp_path, model, data, AvoidConstantInputs(), LocalCandidates([1, 1]), max_steps=1)
    before = first_two(model)[0].candidates.clone()
    fit(tmp_path, model, data, LocalCandidates([1, 1]), refresh, max_steps=6)
    first = first_two(model)[0]
    assert float((before != first.candidates).any(2).float().mean()) > 0.9
    assert all(len(set(row)) == 4 for row in first.candidates.flatten(0, 1).tolist())
    assert spread(first) <= 2


def test_layers_beyond_keep_their_candidates_and_seeds_tell(tmp_path: Path) -> None:
    data = Framed(SHAPE)
    nets = [net(data) for _ in range(3)]
    before = [learned.candidates.clone() for learned in first_two(nets[0])]
    for model, seed in zip(nets, (0, 0, 1), strict=True):
        fit(tmp_path, model, data, LocalCandidates([2], seed=seed), max_steps=1)
    (a, kept), (b, _), (c, _) = (first_two(model) for model in nets)
    assert torch.equal(kept.candidates, before[1])
    assert not torch.equal(a.candidates, before[0])
    assert torch.equal(a.candidates, b.candidates)
    assert not torch.equal(a.candidates, c.candidates)


def test_what_has_no_places_is_refused(tmp_path: Path) -> None:
    data = Framed(SHAPE)
    for radius in ([], [-1], [0.5]):
        with pytest.raises(ValueError, match="it is a distance of 0 or more pixels for each layer"):
            LocalCandidates(radius)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="starts with Intensity, Linear; leave the callback out"):
        fit(tmp_path, MLP(data.image_shape, data.num_classes, 4, 2), data, LocalCandidates([1]))
    with pytest.raises(ValueError, match="the net has 2 layers"):
        fit(tmp_path, net(data), data, LocalCandidates([1, 1, 1]))
    with pytest.raises(ValueError, match="connections: learned, or give fewer radii"):
        fit(tmp_path, net(data, "random"), data, LocalCandidates([1]))
    tree = LogicTreeNet(data.image_shape, data.num_classes, [2], [60], kernel_size=2, tree_depth=1, pool=1)
    with pytest.raises(ValueError, match="behind the encoder of a sequential net"):
        fit(tmp_path, tree, data, LocalCandidates([1]))
    layer = partial(LogicLayer, out_dim=40, connections="learned", num_candidates=4)
    beside = LogicConcat(nn.Identity(), layer(40))
    mixed = LogicSequential(
        Threshold([0.5], data.image_shape), layer(20), beside, layer(80), GroupSum(data.num_classes)
    )
    fit(tmp_path, mixed, data, LocalCandidates([1, 1]), max_steps=1)
    with pytest.raises(ValueError, match="reads more or less than the 40 gates of the layer before"):
        fit(tmp_path, mixed, data, LocalCandidates([1, 1, 1]))
    trainer = toy.trainer(tmp_path, LocalCandidates([1]))
    with pytest.raises(ValueError, match="ImageDataModule"):
        trainer.fit(toy.module(), toy.loader())
