"""Data-parallel training that sends four numbers a gate instead of sixteen."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.training.host_means import HostMeans
from lgn_lightning.training.rank_check import check_same_weights

# torch renames it, and warns of the old name.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class LogicDDPStrategy(DDPStrategy):
    """DDP for logic gate networks: ``--trainer.strategy=logic_ddp``, or ``trainer.strategy`` in a recipe.

    A gate has 16 weights and acts through 4 table entries. The gradient of the weights is a linear function of the
    gradient of the table, and all ranks have the same weights, hence the same function. So the gradients of the tables
    are averaged over the ranks, and each rank computes those of its weights from the mean, with the same result. That
    is a quarter of what DDP sends, without copies between gradients and buckets; as with DDP, the backward pass
    continues meanwhile. Processes that train on the CPU of one host send nothing: they average in shared memory.
    DDP handles the rest as usual: parameters without tables (learned thresholds and connections, other modules), layers
    with as many weights as entries, and layers whose table is drawn on every rank (Gumbel).

    A term of the loss that uses the weights of a gate directly, such as ``WirePenalty``, must be the same on all ranks:
    its gradient is not averaged. After each validation and at the end the ranks compare their weights, and a difference
    is an error.

    Args:
        **options: Those of Lightning's ``DDPStrategy``. Gradients are views of buckets unless said otherwise, and
            buffers are not sent at each step: wires change in the same way on all ranks, or not at all.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"gradient_as_bucket_view": True, _SYNC_BUFFERS: False} | options))
        self._direct: dict[str, GateLayer] = {}

    def configure_ddp(self) -> None:
        module = self.model
        assert isinstance(module, pl.LightningModule)
        self._direct = table_layers(module)
        average_tables(self._direct)
        ignored = {f"{name}.weights" for name in self._direct}
        if all(name in ignored for name, parameter in module.named_parameters() if parameter.requires_grad):
            return  # DDP refuses a module without parameters of its own
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, ignored)  # type: ignore[no-untyped-call]
        super().configure_ddp()

    def on_validation_end(self) -> None:
        self._compare()
        super().on_validation_end()

    def on_train_end(self) -> None:
        self._compare()
        super().on_train_end()

    def teardown(self) -> None:
        for layer in self._direct.values():
            layer.table_hook = None
        self._direct = {}
        super().teardown()

    def _compare(self) -> None:
        check_same_weights({name: layer.weights for name, layer in self._direct.items()})


StrategyRegistry.register("logic_ddp", LogicDDPStrategy, description="DDP of four numbers a gate", override=True)


def table_layers(module: nn.Module) -> dict[str, GateLayer]:
    """The layers whose tables have fewer entries than weights and are a function of the weights alone, by name."""
    return {
        name: layer
        for name, layer in logic_layers(module).items()
        if layer.weights.shape[1] > 1 << layer.arity and layer.sampler.same_on_ranks
    }


def average_tables(layers: Mapping[str, GateLayer]) -> None:
    """Averages the gradients of tables over the ranks, in shared memory on one host's CPU; called on all ranks."""
    means = HostMeans.of(layers)
    for name, layer in layers.items():
        layer.table_hook = mean_over_ranks if means is None else means.hook(name)


def mean_over_ranks(table: Tensor) -> Tensor:
    """The same table, detached, whose gradient is averaged over all ranks before it reaches the weights.

    The backward pass does not wait for the other ranks: it continues to the layers below while gradients are summed,
    and computes the gradients of the weights at its end. All ranks compute the table from the same weights.
    """
    used = table.detach().requires_grad_()
    used.register_post_accumulate_grad_hook(partial(_reduce, table))  # type: ignore[no-untyped-call]
    return used


def _reduce(table: Tensor, used: Tensor) -> None:
    gradient, used.grad = used.grad, None
    assert gradient is not None
    gradient /= torch.distributed.get_world_size()
    sent = torch.distributed.all_reduce(gradient, async_op=True)

    def finish() -> None:
        sent.wait()
        # The caller may run another backward pass on its graph, and nothing else keeps this part of it.
        torch.autograd.backward(table, gradient, retain_graph=True)

    torch.autograd.Variable._execution_engine.queue_callback(finish)  # as DDP and FSDP end theirs
