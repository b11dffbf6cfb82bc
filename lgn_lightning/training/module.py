"""The LightningModule: trains any net soft for any target, and measures it soft and hard."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from lgn_lightning.base.errors import TrainingError
from lgn_lightning.base.lightning_private import (
    callbacks_id,
    callbacks_of,
    datamodule_of,
    log_interval,
    log_short_runs,
    logs_this_step,
    set_log_interval,
    skip_capture_checks,
)
from lgn_lightning.base.trust import trusting
from lgn_lightning.nn import logic_layers, soft_gates
from lgn_lightning.nn.checked_input import check_next_inputs
from lgn_lightning.nn.sequential import fused_layers
from lgn_lightning.runs.checkpoints import DIGEST, digest, read_checkpoint
from lgn_lightning.training.checkpoint import describe_module, module_arguments
from lgn_lightning.training.fit_columns import fit_columns
from lgn_lightning.training.graphed_training import GraphedTraining
from lgn_lightning.training.image_loss import ImageLoss
from lgn_lightning.training.inputs import Inputs, scores_of
from lgn_lightning.training.loss_weight import add_loss
from lgn_lightning.training.parameter_groups import grouped_parameters
from lgn_lightning.training.plateau import Plateau
from lgn_lightning.training.rank_check import check_same_start
from lgn_lightning.training.schedule_length import warn_of_another_length
from lgn_lightning.training.size_check import check_sizes
from lgn_lightning.training.targets import Classes, Target, describe_target, make_target
from lgn_lightning.training.training_labels import training_labels
from lgn_lightning.training.weight_check import check_averages, check_weights, warn_of_untrained

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

Batch = tuple[Inputs, Tensor]


def default_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """Adam with the learning rate of Petersen et al. (2022), in one fused kernel a step."""
    return torch.optim.Adam(parameters, lr=0.01, fused=True)


class LogicModule(GraphedTraining):
    """Trains a net for a target and logs its loss and metrics, soft and hard.

    Logged in training: ``train/loss`` and the learning rate, ``train/lr``. Logged for ``val`` and ``test``: metrics and
    ``loss_hard`` of the discrete net (``.eval()`` mode), such as ``acc_hard``; metrics and ``loss_soft`` of the relaxed
    gates on the same bits; ``score_hard``, the metric that fits the target, higher is better; and its gap, ``gap_acc =
    acc_soft − acc_hard``, the discretization gap. A net without logic layers has one value, and it is logged as both.

    Labels of the first batch of each stage are checked. Weights are checked at logged steps, validations and
    checkpoints: NaN or +∞ among them stops the training.

    Args:
        net: Maps a batch to scores ``[batch, target.num_scores]``: sums of bits over tau.
        num_classes: Number of classes, at least 2; of labels, numbers or levels, where those are the target.
        optimizer: Makes the optimizer from the parameters; fused Adam with lr 0.01 by default.
        lr_scheduler: Makes a scheduler from the optimizer; it scales the rate of each parameter group.
        scheduler_interval: Whether the scheduler steps each ``"step"`` or each ``"epoch"``; ``ReduceLROnPlateau``
            steps after each validation instead, and watches ``val/loss_hard`` if it has no ``monitor``.
        loss: Loss of what the target makes of scores and labels, the target's usual one by default; an
            :class:`~lgn_lightning.losses.ImageLoss` also gets the images in training.
        compile: Whether to ``torch.compile`` the net of the training step.
        cuda_graph: Whether to replay the training step as a CUDA graph, which saves the time of kernel launches and of
            Python. If that is not possible, a warning gives the reason and the step runs as usual.
        parameter_groups: Other options of the optimizer for some parameters of the net. Maps a pattern of their names
            (wildcards as in file names), such as ``"*.learned.logits"``, to options, such as ``{"lr": 0.03}``. The
            first pattern that matches a name counts.
        target: What the net is trained to say: ``"classes"``, ``"yes_no"``, ``"labels"``, ``"number"``, ``"ordinal"``,
            or an object of `lgn_lightning.training.targets`. A recipe's null is what the data says, or classes.
        label_smoothing: Share of a label that the usual loss of classes spreads over all of them, in training
            (Szegedy et al., 2016): nets on few rows stay less sure of them. Other targets do without.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int | None = None,
        optimizer: OptimizerCallable = default_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: str = "step",
        loss: nn.Module | None = None,
        compile: bool = False,
        cuda_graph: bool = False,
        parameter_groups: dict[str, dict[str, Any]] | None = None,
        target: str | Target | None = "classes",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is not in [0, 1)")
        if scheduler_interval not in ("step", "epoch"):
            raise ValueError(f"scheduler_interval={scheduler_interval!r} is not 'step' or 'epoch'")
        self.net = net
        self.target = make_target(target or "classes")
        self.target.prepare(num_classes, net)
        self.num_classes = self.target.num_classes
        self.loss = self.target.chosen_loss(loss, label_smoothing)
        self.label_smoothing = label_smoothing
        self._make_optimizer = optimizer
        self._parameter_groups = parameter_groups or {}
        self._make_scheduler = lr_scheduler
        self._scheduler_interval = scheduler_interval
        self._plateau: Plateau | None = None
        # In a tuple, so that the state dict does not hold the parameters of the compiled module a second time.
        self._train_net = (cast(nn.Module, torch.compile(net)) if compile else net,)
        self.cuda_graph = cuda_graph
        #: Learning rate instead of the optimizer's own; groups of ``parameter_groups`` with a rate of theirs keep it.
        #: Lightning's ``Tuner.lr_find`` and ``LearningRateFinder`` set it.
        self.lr: float | None = None
        #: Terms that callbacks add to the training loss, by name.
        self.penalties: dict[str, Callable[[], Tensor]] = {}
        self.metrics = nn.ModuleDict()
        for key in ("val_hard", "val_soft", "test_hard", "test_soft"):
            self.metrics[key] = nn.ModuleDict({**self.target.metrics(), "loss": MeanMetric()})
        #: The recipe that built this module, as YAML; the CLI sets it, checkpoints keep it.
        self.recipe: str | None = None
        self._labels_checked = self._gradients_checked = False
        self._callbacks = self._log_interval = 0

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # no open files
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        trust_modules: Collection[str] = (),
        **kwargs: Any,
    ) -> Self:
        """Loads the module of a checkpoint: net, optimizer, loss as its recipe says. :func:`load_net` has the bare net.

        Args:
            checkpoint_path: The ``.ckpt`` file.
            map_location: As in :meth:`lightning.pytorch.LightningModule.load_from_checkpoint`, like the next two.
            hparams_file: Likewise.
            strict: Likewise.
            weights_only: Read only tensors and plain values; these checkpoints hold nothing else.
            trust_modules: As in :func:`load_net`; what the recipe names is built of their classes, too.
            **kwargs: Arguments of the constructor, instead of those of the recipe. With ``net`` the recipe is not read.
                Other arguments are then those of the checkpoint if they are plain values; optimizer, scheduler and loss
                are the default ones. Without it, a checkpoint that does not say how its net is built is a
                CheckpointError.
        """
        recipe = None
        if "net" not in kwargs:
            content = read_checkpoint(checkpoint_path)
            with trusting(trust_modules):
                kwargs = {**module_arguments(LogicModule, checkpoint_path, content), **kwargs}
            recipe = content["lgn_recipe"]
        given = kwargs.get("loss")
        state = copy.deepcopy(given.state_dict()) if isinstance(given, nn.Module) else {}
        read = map_location, hparams_file, strict, weights_only
        module = super().load_from_checkpoint(checkpoint_path, *read, **kwargs)
        if state:  # what was given and not what was saved
            module.loss.load_state_dict(state)
        module.recipe = recipe
        return module

    def forward(self, x: Inputs) -> Tensor:
        """Scores of a batch: soft in ``.train()``, hard in ``.eval()`` mode; of several inputs, if they are a tuple."""
        return scores_of(self.net, x, self.target.num_scores)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        self._check_labels(y)
        loss = self.train_on(x, y)
        # Logging costs as much as a layer, so it happens only at the steps that a logger or the bar reads.
        if logs_this_step(self.trainer):
            check_weights(self.net, self.trainer.global_step)
            value = loss.detach()
            if not math.isfinite(value.item()):
                where = f"the training loss is {value.item()} at step {self.trainer.global_step}"
                raise TrainingError(f"{where}; lower the learning rate, or look for NaN in the data")
            self.log("train/loss", value, prog_bar=True, sync_dist=self.trainer.world_size > 1)
            self.log_dict(self._rates(), sync_dist=False)
        return loss

    def _rates(self) -> dict[str, float]:
        """Learning rates by the names that they are logged under: ``train/lr``, and one for each of parameter_groups.

        Their patterns are shortened: ``train/lr/learned.logits`` is that of ``"*.learned.logits"``.
        """
        optimizer = self.optimizers(use_pl_optimizer=False)
        groups = [] if isinstance(optimizer, list) else optimizer.param_groups
        names = [f"/{pattern.strip('*.')}" for pattern in self._parameter_groups][: len(groups)]
        return {f"train/lr{name}": float(group["lr"]) for name, group in zip((*names, ""), groups, strict=False)}

    def training_loss(self, x: Inputs, y: Tensor) -> Tensor:
        """Loss of a batch of images and labels, with the terms of callbacks: a scalar, differentiable."""
        with fused_layers():
            scores = scores_of(self._train_net[0], x, self.target.num_scores)
        loss = self.loss_of(scores, y, x)
        for penalty in self.penalties.values():
            loss = loss + penalty()
        return loss

    def loss_of(self, scores: Tensor, y: Tensor, x: Inputs | None = None) -> Tensor:
        """Loss of a batch of scores and labels; of the images, too, if the loss looks at them."""
        images = (x,) if x is not None and isinstance(self.loss, ImageLoss) else ()
        return cast(Tensor, self.loss(self.target.outputs(scores), self.target.labels(y), *images))

    def setup(self, stage: str) -> None:
        """Checks that net and data fit (DataError), and that all ranks built one net (RankError); DDP would hide it."""
        check_sizes(self.net, self.num_classes, datamodule_of(self), self.target.num_scores)
        fit_columns(self.net, datamodule_of(self), fits=stage == "fit")
        if stage == "fit":
            check_same_start(self.net)
            check_averages(callbacks_of(self.trainer))
            self._callbacks = callbacks_id(self.trainer)

    def on_train_start(self) -> None:
        """Compares the schedule with the training, lets the target see the labels, and has net and loss train.

        Lightning leaves modes as they are. A loaded net is in ``.eval()`` mode, where gates have no gradient; a loss in
        that mode does no label smoothing and no distillation. Single parts that are in it stay in it.

        A ValueError if the learning rate waits for validations, and there will be none.
        """
        for whole in (self.net, self.loss):
            if not any(part.training for part in whole.modules()):
                whole.train()
        if self.device.type == "cpu":
            skip_capture_checks(self.trainer)
        self._log_interval = log_interval(self.trainer)
        if callbacks_id(self.trainer) == self._callbacks:  # else a tuner's trial, of which the length says nothing
            if self._plateau is not None:
                self._plateau.check(self.trainer)
            warn_of_another_length(self.trainer)
            log_short_runs(self.trainer)
        if self.target.needs_labels:
            self.target.fit(training_labels(self.trainer, self.target).to(self.device))
        self._check_next_batch()
        super().on_train_start()

    def on_train_end(self) -> None:
        """Gives the trainer its own interval of logging back."""
        super().on_train_end()
        set_log_interval(self.trainer, self._log_interval)

    def on_validation_start(self) -> None:
        """Refuses weights that are NaN or infinite, and empties the metrics; the first batch is checked."""
        self._start("val")

    def on_test_start(self) -> None:
        self._start("test")

    def on_predict_start(self) -> None:
        self._start(None)

    def _start(self, split: str | None) -> None:
        check_weights(self.net, self.trainer.global_step)
        self._check_next_batch()
        # At the start: at the end, `Trainer.validate` would leave inference tensors, which `fit` cannot add to.
        for kind in ("hard", "soft") if split else ():
            for metric in cast(nn.ModuleDict, self.metrics[f"{split}_{kind}"]).values():
                cast(MeanMetric, metric).reset()

    def _check_next_batch(self) -> None:
        check_next_inputs(self.net)
        self._labels_checked = False

    def _check_labels(self, y: Tensor) -> None:
        """Looks at the labels of the first batch of each stage: it waits for the device."""
        if not self._labels_checked:
            self.target.check(y, getattr(self.loss, "ignore_index", None))
            self._labels_checked = True

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_train_batch_end(self, *_: object) -> None:
        """Warns after the first step of layers that no gradient reaches."""
        if not self._gradients_checked:
            warn_of_untrained(self.net)
            self._gradients_checked = True

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """What the hard net decides: classes int64 ``[batch]``, labels or numbers, see :meth:`Target.decide`."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        return self.target.decide(self.target.counts(self(x), hard=True))

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics, and steps a scheduler that waits for a plateau."""
        self._log_metrics("val")
        # Before checkpoints are written: they have to hold the scheduler after this step.
        if self._plateau is not None and self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._plateau.step(self.trainer)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _evaluate(self, split: str, batch: Batch) -> None:
        x, y = batch
        self._check_labels(y)
        scores = self(x)
        self._update(split, "hard", scores, y)
        if logic_layers(self.net):
            with soft_gates(self.net):
                scores = self(x)
        self._update(split, "soft", scores, y)

    def _update(self, split: str, kind: str, scores: Tensor, y: Tensor) -> None:
        metrics = cast(nn.ModuleDict, self.metrics[f"{split}_{kind}"])
        self.target.update(metrics, self.target.counts(scores, kind == "hard"), y)
        add_loss(cast(MeanMetric, metrics["loss"]), self.loss_of(scores, y), self.loss, self.target.labels(y))

    def validation_score(self) -> float:
        """The main metric of the hard net in the validation that is about to end; the higher, the better."""
        found = cast(nn.ModuleDict, self.metrics["val_hard"])
        self.target.choose(found)
        return float(self.target.compute(found)[self.target.main])

    def _log_metrics(self, split: str) -> None:
        if split == "val" and self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.target.choose(self.metrics["val_hard"])
        values: dict[str, Tensor] = {}
        for kind in ("hard", "soft"):
            metrics = cast(nn.ModuleDict, self.metrics[f"{split}_{kind}"])
            found = {**self.target.compute(metrics), "loss": cast(MeanMetric, metrics["loss"]).compute()}
            values |= {f"{split}/{name}_{kind}": value for name, value in found.items()}
        main = self.target.main
        values[f"{split}/score_hard"] = values[f"{split}/{main}_hard"]
        values[f"{split}/gap_{main}"] = values[f"{split}/{main}_soft"] - values[f"{split}/{main}_hard"]
        # torchmetrics has reduced over the ranks already: every rank logs the same numbers.
        shown = f"{split}/{main}_hard"
        self.log(shown, values.pop(shown), prog_bar=True, sync_dist=False)
        self.log_dict(values, prog_bar=False, sync_dist=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self._make_optimizer(grouped_parameters(self, self.net, self._parameter_groups))
        if self.lr is not None:
            default = optimizer.defaults["lr"]
            for group in optimizer.param_groups:
                if group["lr"] == default:
                    group["lr"] = self.lr
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._plateau = Plateau(scheduler)
            return {"optimizer": optimizer, "lr_scheduler": self._plateau.config}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self._scheduler_interval}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what the checkpoint holds of another loss, such as class weights: the net is what is loaded."""
        own = {f"loss.{name}": value for name, value in self.loss.state_dict().items()}
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("loss.")]:
            if name not in own or own[name].shape != state[name].shape:
                del state[name]
        for name in own.keys() - state.keys():
            state[name] = own[name]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves recipe, class names, preparation, decoding, digest; a TrainingError if weights are NaN or infinite."""
        check_weights(self.net, checkpoint.get("global_step", 0))
        super().on_save_checkpoint(checkpoint)
        arguments = {
            "num_classes": self.num_classes,
            "scheduler_interval": self._scheduler_interval,
            "compile": self._train_net[0] is not self.net,
            "cuda_graph": self.cuda_graph,
            **({"label_smoothing": self.label_smoothing} if self.label_smoothing else {}),
            "parameter_groups": self._parameter_groups,
            **({} if isinstance(self.target, Classes) else {"target": describe_target(self.target)}),
        }
        checkpoint["lgn_recipe"] = self.recipe or describe_module(self.net, arguments)
        # Not by `save_hyperparameters`: it does not find these arguments in a subclass that a CLI builds.
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        checkpoint[key] = {**arguments, **checkpoint.get(key, {})}
        data = datamodule_of(self)
        names = getattr(data, "class_names", None)
        if names is not None:
            checkpoint["lgn_class_names"] = list(names)
        preparation = getattr(data, "preparation", None)
        if preparation is not None:
            checkpoint["lgn_preparation"] = preparation
        checkpoint["lgn_decoding"] = self.target.decoding()
        checkpoint[DIGEST] = digest(checkpoint)
