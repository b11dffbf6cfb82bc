"""What a batch gives to a net, one input or several, and the scores that it must give back."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from lgn_lightning.base.errors import TrainingError
from lgn_lightning.circuit.build.inputs import split_inputs
from lgn_lightning.nn.deferred import computed

#: Of a net of several inputs, these as a tuple.
Inputs: TypeAlias = Tensor | tuple[Tensor, ...]


def scores_of(net: nn.Module, x: Inputs, count: int) -> Tensor:
    """Scores of a batch, ``[batch, count]`` or those of steps, whose inputs may be joined as a circuit takes them.

    Raises:
        TrainingError: If the net gives no tensor, or another number of scores.
    """
    scores = computed(net(*(split_inputs(net, x) if isinstance(x, Tensor) else x)))
    if isinstance(scores, Tensor):
        if scores.ndim == 2 and scores.shape[1] != count:
            raise TrainingError(
                f"{type(net).__name__} gives {scores.shape[1]} scores of a sample, and the target has {count}: change "
                "one of them; with more heads override training_loss, and have forward give the scores of the target"
            )
        return scores
    keys = f" with the keys {', '.join(map(str, scores))}" if isinstance(scores, dict) else ""
    raise TrainingError(
        f"{type(net).__name__} gives a {type(scores).__name__}{keys}, and a tensor of scores is trained: return it "
        "alone, or override training_loss and forward of LogicModule"
    )
