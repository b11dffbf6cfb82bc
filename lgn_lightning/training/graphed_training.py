"""A LightningModule that trains by a CUDA graph, where that is possible."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lgn_lightning.base.lightning_private import PlainHookName
from lgn_lightning.training.graph_rules import reason_against
from lgn_lightning.training.graphed_step import FALLBACK, GraphedStep


class GraphedTraining(PlainHookName):
    """Makes the whole training step in ``training_step``, as a CUDA graph, and leaves the loop nothing to do.

    A subclass gives :meth:`training_loss` and calls :meth:`train_on` in its ``training_step``. Lightning's automatic
    optimization goes on counting steps, moving schedules and writing checkpoints; its calls of ``backward``,
    ``optimizer_zero_grad`` and ``optimizer_step`` do nothing when the graph has done their work.
    """

    #: Whether to train by a CUDA graph; where that is not possible, a warning says why and the step runs as usual.
    cuda_graph: bool = False
    _graphed: GraphedStep | None = None

    def training_loss(self, x: Any, y: Tensor) -> Tensor:
        """Loss of a batch of images and labels: a scalar, differentiable."""
        raise NotImplementedError

    def train_on(self, x: Any, y: Tensor) -> Tensor:
        """Loss of a batch; with a graph, the whole step is done."""
        graphed = self._graphed if isinstance(x, Tensor) else None  # of several inputs it has no room for
        return self.training_loss(x, y) if graphed is None else graphed(x, y)

    def reset_cuda_graph(self) -> None:
        """Makes the graph record the step again, after a change that neither tensors nor samplers show."""
        if self._graphed is not None:
            self._graphed.forget()

    def on_train_start(self) -> None:
        super().on_train_start()
        self._graphed = None
        if self.cuda_graph:
            reason = reason_against(self.trainer, self)
            if reason is None:
                self._graphed = GraphedStep(self, self.training_loss, self.trainer.optimizers[0])
            else:
                rank_zero_warn(f"{FALLBACK}: {reason}")

    def on_train_end(self) -> None:
        super().on_train_end()
        if self._graphed is not None:
            self._graphed.close()
            self._graphed = None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The loop's backward pass, unless it was part of the graph."""
        if not self._stepped:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Drops the gradients, unless the graph did: then callbacks can read those of this step."""
        if not self._stepped:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """The loop's optimizer step; with a graph, the closure has done it already."""
        if self._graphed is None or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        optimizer_closure()
        if not self._stepped:  # a subclass has a training_step of its own
            optimizer.step()
        self._graphed.stepped = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes what only the graph needs out of the optimizer's state."""
        super().on_save_checkpoint(checkpoint)
        if self._graphed is not None and checkpoint.get("optimizer_states"):
            self._graphed.clean(checkpoint["optimizer_states"][0])

    @property
    def _stepped(self) -> bool:
        return self._graphed is not None and self._graphed.stepped
