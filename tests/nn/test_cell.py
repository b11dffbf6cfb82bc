"""One step of a recurrent net: its widths, its gates, how its state begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning.circuit import CircuitError, SequentialCircuit
from lgn_lightning.nn import GroupSum, LogicCell, LogicConcat, LogicLayer, LogicRecurrent, LogicSequential, StepEncoder


def cell(state: int = 4, own: int = 3, memory: str = "gates", **options: str) -> LogicCell:
    out = own + {"gates": 1, "multiplexer": 2, "delay": 0}[memory] * state
    return LogicCell(nn.Sequential(LogicLayer(5 + state, 12), LogicLayer(12, out)), 5, state, own, memory, **options)


class Narrow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :6]


def test_widths_that_do_not_close_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes 9 bits and gives 12, but .* 5 \+ 4 = 9 bits, and .* 7"):
        LogicCell(LogicLayer(9, 12), 5, 4, 3)
    with pytest.raises(ValueError, match="does not close"):
        LogicCell(LogicLayer(8, 7), 5, 4, 3)
    made = LogicCell(Narrow(), 5, 4, 3)  # whose widths show at the first step
    with pytest.raises(ValueError, match="gives 6, but"):
        made(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(CircuitError, match="gives 6, but"):
        SequentialCircuit.from_module(LogicSequential(StepEncoder(num_bits=5), LogicRecurrent(made), GroupSum(3)))
    skips = LogicConcat(nn.Identity(), LogicLayer(8, 8))  # wider than each of its layers
    assert LogicCell(skips, 4, 4, 12)(torch.zeros(2, 4), torch.zeros(2, 4))[0].shape == (2, 12)
    for sizes in ((0, 4, 3), (5, 0, 3), (5, 4, -1)):
        with pytest.raises(ValueError, match="1 input bit and 1 state bit"):
            LogicCell(LogicLayer(9, 7), *sizes)
    with pytest.raises(ValueError, match="memory='none'"):
        LogicCell(LogicLayer(9, 7), 5, 4, 3, "none")
    with pytest.raises(ValueError, match="give out_dim"):
        LogicCell(LogicLayer(9, 7), 5, 4, 0, "delay")
    with pytest.raises(ValueError, match="initial='ones'"):
        cell(initial="ones")


@pytest.mark.parametrize("own", [0, 3])
def test_a_gated_cell_is_a_multiplexer(own: int) -> None:
    made = cell(own=own, memory="multiplexer").eval()
    x, state = torch.randint(2, (50, 5)).float(), torch.randint(2, (50, 4)).float()
    out, following = made(x, state)
    y = made.net(torch.cat([x, state], 1))
    update, candidate = y[:, own : own + 4].bool(), y[:, own + 4 :]
    assert torch.equal(following, torch.where(update, candidate, state))
    assert torch.equal(out, y[:, :own] if own else following)


def test_a_delay_line_has_the_newest_inputs_first() -> None:
    made = cell(state=12, own=6, memory="delay").eval()
    x, state = torch.randint(2, (50, 3, 5)).float(), torch.zeros(50, 12)
    for t in range(3):
        _, state = made(x[:, t], state)
    assert torch.equal(state, torch.cat([x[:, 2], x[:, 1], x[:, 0, :2]], 1))


def test_learned_initial_bits() -> None:
    made = cell(initial="learned")
    assert made.initial_logits is not None
    with torch.no_grad():
        made.initial_logits.copy_(torch.tensor([1.0, -1.0, 2.0, -0.1]))
    assert made.initial_bits().tolist() == [True, False, True, False]
    soft = made.initial_state()
    assert soft is not None
    assert torch.allclose(soft, torch.sigmoid(made.initial_logits))
    hard = made.eval().initial_state()
    assert hard is not None
    assert np.array_equal(hard.detach().numpy(), made.initial_bits())
    hard.sum().backward()
    assert (made.initial_logits.grad > 0).all()
    assert cell().initial_state() is None
