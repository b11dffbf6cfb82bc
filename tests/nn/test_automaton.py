"""Cellular automata: one rule for all cells, at every border, and as a circuit with a loop over the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.circuit import Circuit, LoopedCircuit, optimize
from lgn_lightning.losses import GrowthLoss
from lgn_lightning.models import LogicCA
from lgn_lightning.nn import LogicAutomaton, LogicLayer, life_circuit

NEIGHBOURHOODS = (np.arange(512)[:, None] >> np.arange(9)[::-1] & 1).astype(bool)


def automaton(votes: int = 3, channels: int = 2, sampler: str = "straight_through", **options: Any) -> LogicAutomaton:
    torch.manual_seed(0)
    layer: dict[str, Any] = {"sampler": sampler, "parametrization": "sigmoid"}
    rule = nn.Sequential(LogicLayer(9 * channels, 20, **layer), LogicLayer(20, max(10, votes * channels), **layer))
    return LogicAutomaton(rule, channels, votes, **options)


def slow_step(net: LogicAutomaton, grid: Tensor) -> Tensor:
    """One cell at a time."""
    channels, height, width = grid.shape
    out = torch.zeros_like(grid)
    for row in range(height):
        for column in range(width):
            field = torch.zeros(channels, 3, 3)
            for i in range(3):
                for j in range(3):
                    y, x = row + i - 1, column + j - 1
                    if net.border == "torus":
                        field[:, i, j] = grid[:, y % height, x % width]
                    elif 0 <= y < height and 0 <= x < width:
                        field[:, i, j] = grid[:, y, x]
            out[:, row, column] = (net.rule(field.flatten()[None])[0] > 0.5).float()
    return out


@pytest.mark.parametrize("border", ["torus", "zeros"])
def test_all_cells_follow_one_rule(border: str) -> None:
    net = automaton(votes=5, steps=2, border=border).eval()
    x = torch.randint(2, (2, 2, 4, 5)).float()
    grids = torch.stack(net.grids(x, 2), 1)
    for grid, found in zip(x, grids, strict=True):
        for step in found:
            grid = slow_step(net, grid)
            assert torch.equal(step, grid)


@pytest.mark.parametrize("votes", [5, 6, 7])
@pytest.mark.parametrize("border", ["torus", "zeros"])
def test_the_circuit_has_one_kernel_a_step(border: str, votes: int) -> None:
    torch.manual_seed(0)
    net = LogicCA((2, 4, 5), width=20, depth=1, votes=votes, steps=2, border=border).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = torch.randint(256, (50, 2, 4, 5), dtype=torch.uint8)
    wanted = (net(x) * 0.05).round().int().numpy()
    looped = LoopedCircuit.from_module(net)
    assert len(looped.stages) == 2
    for circuit in (looped, Circuit.from_module(net), looped.optimize()):
        assert np.array_equal(circuit.scores(x), wanted)
    assert np.array_equal(looped.compile()(x), wanted)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_gradients_reach_every_step(sampler: str) -> None:
    net = automaton(votes=5, steps=3, sampler=sampler)
    x = torch.randint(2, (4, 2, 5, 5)).float().requires_grad_()
    y = net(x)
    assert ((y >= 0) & (y <= 1)).all()
    assert ((y * 5 - (y * 5).round()).abs() < 1e-5).all() == (sampler != "soft"), "shares of votes"
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert x.grad is not None


def test_asynchronous_updates_leave_some_cells() -> None:
    net = automaton(votes=5, update=0.5)
    x = torch.randint(2, (50, 2, 6, 6)).float()
    torch.manual_seed(1)
    y, all_at_once = net(x), automaton(votes=5)(x)
    moved = (y == all_at_once).all(1)
    assert ((y == x).all(1) | moved).all()
    assert 0.4 < (y != x).any(1).sum() / (all_at_once != x).any(1).sum() < 0.6
    assert torch.equal(net.eval()(x), automaton(votes=5).eval()(x))


def test_the_first_channels_are_read_and_the_others_stay_inside() -> None:
    x = torch.randint(2, (3, 2, 4, 5)).float()
    part, whole = automaton(votes=5, steps=3, visible=1).eval(), automaton(votes=5, steps=3).eval()
    assert torch.equal(part(x), whole(x)[:, :1])
    assert [grid.shape for grid in part.grids(x, 2)] == [x.shape] * 2
    circuit = Circuit.from_module(nn.Sequential(part), input_shape=(2, 4, 5))
    assert np.array_equal(circuit.scores(x.flatten(1).numpy() > 0), part(x).flatten(1).numpy())
    with pytest.raises(ValueError, match="visible=3"):
        automaton(visible=3)


def test_all_steps_in_training_and_the_last_one_outside() -> None:
    x = torch.randint(2, (3, 2, 4, 5)).float()
    every, last = automaton(votes=5, steps=3, every=True, visible=1), automaton(votes=5, steps=3, visible=1)
    y = every(x)
    assert y.shape == (3, 3, 1, 4, 5)
    assert torch.equal(y[:, -1], last(x))
    assert torch.equal(y[:, 0], automaton(votes=5, visible=1)(x)), "shares of the votes, not bits"
    assert torch.equal(every.eval()(x), last.eval()(x))
    circuit = Circuit.from_module(nn.Sequential(every), input_shape=(2, 4, 5))
    assert np.array_equal(circuit.scores(x.flatten(1).numpy() > 0), every(x).flatten(1).numpy())


def test_a_pattern_grows_from_a_seed() -> None:
    torch.manual_seed(0)
    rows = torch.tensor([[c == "#" for c in row] for row in ("..#..", ".###.", "..#..", ".#.#.", "#...#")])
    net = LogicCA((8, 5, 5), [96, 96], votes=16, steps=3, border="zeros", tau=0.06, every=True, visible=1)
    seed = torch.zeros(1, 8, 5, 5, dtype=torch.uint8)
    seed[:, :, 2, 2] = 255
    loss, labels = GrowthLoss(), rows.float().flatten()[None]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        loss(net.train()(seed) - 0.5 / 0.06, labels, seed).backward()
        optimizer.step()
        net.eval()
        with torch.no_grad():
            grown = net(seed).view(5, 5) > 0
        if torch.equal(grown, rows):
            break
    assert torch.equal(grown, rows)
    assert np.array_equal(LoopedCircuit.from_module(net).optimize().scores(seed)[0], rows.flatten())


def test_the_game_of_life_as_a_circuit_fits_few_gates() -> None:
    life = life_circuit()
    around = NEIGHBOURHOODS.sum(1) - NEIGHBOURHOODS[:, 4]
    assert np.array_equal(life.scores(NEIGHBOURHOODS)[:, 0], (around == 3) | ((around == 2) & NEIGHBOURHOODS[:, 4]))
    small = optimize(life)
    assert small.num_gates <= 60
    assert small.verify(life).equal


def test_what_does_not_fit_is_refused() -> None:
    for options, message in (
        ({"border": "mirror"}, "border"),
        ({"steps": 0}, "steps=0"),
        ({"update": 0.0}, "update=0"),
    ):
        with pytest.raises(ValueError, match=message):
            automaton(**options)
    with pytest.raises(ValueError, match="takes grids"):
        automaton(votes=5)(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ValueError, match="takes grids"):
        automaton(votes=5)(torch.zeros(1, 2, 2, 5))
    with pytest.raises(ValueError, match="numbers from"):
        automaton(votes=5)(torch.full((1, 2, 5, 5), 3.0))
