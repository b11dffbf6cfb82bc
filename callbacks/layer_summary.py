"""The table of the net that ``lgn fit`` prints first: layers with their inputs, gates, wires and parametrization."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelSummary
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from lgn_lightning.nn import logic_layers


class LayerSummary(ModelSummary):
    """Prints a row a layer of gates; of a net without gates, a row a module with parameters.

    Takes the place of Lightning's own summary, and no arguments.
    """

    def __init__(self) -> None:
        super().__init__(max_depth=1)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the table, on one rank."""
        if trainer.is_global_zero:
            net = getattr(pl_module, "net", pl_module)
            Console().print(layer_table(net))


def layer_table(net: nn.Module) -> Table:
    """Makes the table of a net."""
    layers = logic_layers(net)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    table = Table(box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    title = f"{type(net).__name__}: {parameters:,} parameters"
    if layers:
        gates = sum(layer.num_neurons for layer in layers.values())
        everywhere = getattr(net, "num_gates", gates)
        places = f", {everywhere:,} at all places of the image" if everywhere != gates else ""
        title = f"{type(net).__name__}: {gates:,} gates{places}, {parameters:,} parameters"
        for name, justify in (("layer", "left"), ("type", "left"), ("inputs", "right"), ("gates", "right")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for name in ("wires", "parametrization"):
            table.add_column(name)
        for name, layer in layers.items():
            row = (layer.input_text, f"{layer.num_neurons:,}", layer.wires_text, layer.parametrization.name)
            table.add_row(name or "net", type(layer).__name__, *row)
    else:
        for name, justify in (("layer", "left"), ("type", "left"), ("parameters", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for name, module in net.named_children():
            count = sum(parameter.numel() for parameter in module.parameters())
            if count:
                table.add_row(name, type(module).__name__, f"{count:,}")
    table.title = title
    return table
