"""What the estimators share: rows of bits, the training, and the circuit that predicts."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Integral, Real
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lgn_lightning.base.columns import Column, Rows, make_rows
from lgn_lightning.base.errors import DataError
from lgn_lightning.circuit import Circuit, Decoding, Engine
from lgn_lightning.data.loader import TensorLoader
from lgn_lightning.data.sampler import EpochBatchSampler
from lgn_lightning.data.splits import split_rows
from lgn_lightning.data.table_columns import find_columns, make_table_rows
from lgn_lightning.data.table_remedies import FrameMethods
from lgn_lightning.data.thresholds import Encoding
from lgn_lightning.models import TableMLP
from lgn_lightning.nn import Columns
from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.schedule_length import steps_of

#: Validations of a training.
_VALIDATIONS = 20
#: Steps where none are given: so many passes over the rows, and no more than these steps.
_PASSES, _MOST_STEPS = 64, 3000
#: Rows that are evaluated at once.
_BATCH = 4096


class LogicGateEstimator(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """What both estimators share: rows of bits, the training, and the circuit that predicts."""

    circuit_: Circuit
    engine_: Engine
    net_: nn.Module
    columns_: tuple[Column, ...]

    def __init__(
        self,
        width: int = 4000,
        depth: int = 3,
        thresholds: int = 32,
        learned_layers: int = 1,
        num_candidates: int = 16,
        steps: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 0.1,
        loss: nn.Module | None = None,
        validation_fraction: float = 0.15,
        patience: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.thresholds = thresholds
        self.learned_layers = learned_layers
        self.num_candidates = num_candidates
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # a missing value is a bit of its own
        return tags

    def _check_arguments(self) -> None:
        """A TypeError or ValueError if what the training is told cannot be."""
        net = {"width": 1, "depth": 1, "thresholds": 1, "learned_layers": 0, "num_candidates": 2}
        for name, least in {**net, "steps": 1, "patience": 1, "batch_size": 1}.items():
            value = getattr(self, name)
            if isinstance(value, bool):
                raise TypeError(f"{name}={value} is no number")
            if value is not None:
                check_scalar(value, name, Integral, min_val=least)
        if self.loss is not None and not isinstance(self.loss, nn.Module):
            raise TypeError(f"loss={self.loss!r} is no torch module, such as lgn_lightning.losses.FocalLoss()")
        check_scalar(self.learning_rate, "learning_rate", Real, min_val=0, include_boundaries="neither")
        check_scalar(
            self.validation_fraction, "validation_fraction", Real, min_val=0, max_val=1, include_boundaries="left"
        )
        if self.patience is not None and not self.validation_fraction:
            raise ValueError("patience waits for validations, and with validation_fraction=0 there are none")

    def _rows(self, x: Any, y: Any = None, fitting: bool = False) -> tuple[Rows, Any]:
        """Rows of an array or frame, and the labels, both checked; ``fitting`` finds what the columns hold."""
        checks: dict[str, Any] = {"reset": fitting, "ensure_all_finite": "allow-nan"}
        if fitting:
            self._check_arguments()
            checks |= {"ensure_min_samples": 2, "y": y, "multi_output": isinstance(self, MultiOutputMixin)}
        if getattr(getattr(x, "dtype", None), "kind", None) in ("m", "M"):
            raise ValueError("X holds dates or durations: give what matters of them, such as hours or days, as numbers")
        is_frame = hasattr(x, "dtypes")
        numbers = not is_frame or all(np.dtype(kind).kind in "fiub" for kind in _plain(x.dtypes))
        if not fitting:  # names of categories, whatever type they come in
            numbers &= all(column.kind != "category" for column in self.columns_)
        checked = x.astype(object) if is_frame and not numbers else x  # numpy has no type for dates among numbers
        found = validate_data(self, checked, dtype=[np.float64, np.float32] if numbers else None, **checks)
        values, y = found if fitting else (found, None)
        if not numbers:
            names = [column.name for column in self.columns_] if not is_frame else None
            frame = pd.DataFrame(values, columns=names) if names else x.rename(columns=str)
            if fitting:
                # What a frame that someone made calls a category was meant, however many there are.
                said = {str(name): "category" for name in frame.select_dtypes("category").columns}
                self.columns_ = _refused(find_columns, frame, said, "X", FrameMethods())
            return _refused(make_table_rows, self.columns_, frame, "X", None, FrameMethods())[0], y
        if fitting:
            names = getattr(self, "feature_names_in_", [f"x{index}" for index in range(values.shape[1])])
            self.columns_ = tuple(Column(str(name), str(values.dtype)) for name in names)
        return make_rows(self.columns_, [c.convert(values[:, i]) for i, c in enumerate(self.columns_)]), y

    def _train(
        self,
        rows: Rows,
        labels: Tensor,
        target: str,
        num_classes: int,
        loss: nn.Module | None,
        label_smoothing: float = 0.0,
    ) -> None:
        """Trains a net on rows, and makes its circuit."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        train, held_out = self._split(labels, seed, target)
        comparisons = _refused(Encoding(thresholds=self.thresholds).fit, self.columns_, rows[train])
        samples = torch.from_numpy(rows.view(np.uint8).reshape(len(rows), -1).copy())
        batch = min(self.batch_size, len(train))
        loaders: list[Any] = [
            TensorLoader(samples[part], labels[part], EpochBatchSampler(len(part), size, shuffle=shuffle, seed=seed))
            for part, size, shuffle in ((train, batch, True), (held_out, _BATCH, False))
            if len(part)
        ]
        steps = min(steps_of(_PASSES, len(train), batch), _MOST_STEPS) if self.steps is None else self.steps
        every = max(1, steps // _VALIDATIONS)
        best = _Best()
        callbacks: list[pl.Callback] = [best]
        if self.patience is not None:
            callbacks.append(EarlyStopping("val/loss_hard", patience=self.patience))
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wires = ["learned"] * self.learned_layers + ["random"] * (self.depth - self.learned_layers)
            candidates = min(self.num_candidates, len(comparisons))
            widths = self._widths(len(comparisons))
            net = TableMLP(len(comparisons), num_classes, widths, connections=wires, num_candidates=candidates)
            next(layer for layer in net.modules() if isinstance(layer, Columns)).fit(comparisons)
            module = LogicModule(
                net,
                num_classes,
                partial(torch.optim.Adam, lr=self.learning_rate, fused=True),
                partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps),
                loss=copy.deepcopy(loss),
                target=target,
                label_smoothing=label_smoothing,
            )
            trainer = pl.Trainer(
                accelerator="cpu",
                devices=1,
                max_steps=steps,
                max_epochs=-1,
                val_check_interval=every,
                check_val_every_n_epoch=None,
                num_sanity_val_steps=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=callbacks if len(loaders) > 1 else [],
            )
            trainer.fit(module, *loaders)
        if best.state is not None:
            module.load_state_dict(best.state)
        self.n_features_in_ = len(self.columns_)
        self.n_iter_ = trainer.global_step
        self.net_ = net.eval()
        self.circuit_ = Circuit.from_module(self.net_).with_decoding(Decoding(**module.target.decoding()))
        self.engine_ = Engine(self.circuit_)

    def _widths(self, bits: int) -> list[int]:
        """Gates of the layers: wider than asked for where a layer could not read all of the one before."""
        widths: list[int] = []
        for _ in range(self.depth):
            widths.append(max(self.width, -(-(widths or [bits])[-1] // 2)))
        return widths

    def _split(self, labels: Tensor, seed: int, target: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to train and to validate on; of very few rows none are held out, which patience does not allow."""
        rows, nothing = np.arange(len(labels)), np.zeros(0, np.int64)
        if len(rows) * self.validation_fraction >= 2:
            with suppress(DataError):
                classes = labels.numpy() if target == "classes" else None
                return split_rows(len(rows), self.validation_fraction, seed, classes)
        if self.patience is not None:
            raise ValueError(
                f"patience waits for validations, and {len(rows)} rows are too few to hold a share of "
                f"{self.validation_fraction} out; leave patience out"
            )
        return rows, nothing

    def _scores(self, x: Any) -> NDArray[np.int32]:
        check_is_fitted(self)
        return self.engine_(self._rows(x)[0])


class _Best(pl.Callback):
    """Keeps the state of the lowest validation loss of the hard net, in memory."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self._loss = float("inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["val/loss_hard"])
        if loss < self._loss:
            self._loss, self.state = loss, copy.deepcopy(pl_module.state_dict())


def _plain(kinds: Any) -> list[Any]:
    """Dtypes that numpy knows; others, such as categories, stand as objects."""
    return [kind if isinstance(kind, np.dtype) else np.dtype(object) for kind in kinds]


def _refused(call: Any, *arguments: Any) -> Any:
    """Calls; what data is of no use is a ValueError here, as in all of scikit-learn."""
    try:
        return call(*arguments)
    except DataError as error:
        raise ValueError(str(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning from telling users of scikit-learn about devices and loaders."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
