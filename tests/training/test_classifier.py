import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier, LogicModule, soft_gates
from lgn_lightning.base.errors import TrainingError
from lgn_lightning.data import Digits
from lgn_lightning.models import MLP, LogicMLP
from tests.training.toy import loader, net, toy, trainer

METRICS = {"acc_hard", "acc_soft", "loss_hard", "loss_soft", "gap_acc", "score_hard"}


def accuracy_and_loss(scores: Tensor, y: Tensor) -> tuple[float, float]:
    p = torch.softmax(scores.double(), 1)[torch.arange(len(y)), y]
    return (scores.argmax(1) == y).double().mean().item(), -p.log().mean().item()


def expected_metrics(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        acc_hard, loss_hard = accuracy_and_loss(model(x), y)
        with soft_gates(model):
            acc_soft, loss_soft = accuracy_and_loss(model(x), y)
    return {
        "acc_hard": acc_hard,
        "acc_soft": acc_soft,
        "loss_hard": loss_hard,
        "loss_soft": loss_soft,
        "gap_acc": acc_soft - acc_hard,
        "score_hard": acc_hard,
    }


def test_learns_and_logs_what_an_independent_computation_gives(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2, optimizer=partial(torch.optim.Adam, lr=0.05))
    before = expected_metrics(model.net, *toy())
    run = trainer(tmp_path, max_epochs=15, log_every_n_steps=4)
    run.fit(model, loader(), loader(130, seed=1))  # the last validation batch has 30 samples
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    after = expected_metrics(model.net, *toy())
    assert after["loss_soft"] < before["loss_soft"] - 0.1
    assert after["acc_hard"] > 0.8
    expected = {f"val/{name}": value for name, value in expected_metrics(model.net, *toy(130, 1)).items()}
    assert set(logged) == {*expected, "train/loss", "train/lr"}
    assert logged["train/lr"] == pytest.approx(0.05)
    assert {name: logged[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    (tested,) = run.test(model, loader(130, seed=2), verbose=False)
    expected = {f"test/{name}": value for name, value in expected_metrics(model.net, *toy(130, 2)).items()}
    assert {name: tested[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert expected["test/acc_soft"] != expected["test/acc_hard"]
    predictions = run.predict(model, loader(130, seed=2))
    assert predictions is not None
    assert torch.equal(torch.cat(predictions), model.net.eval()(toy(130, 2)[0]).argmax(1))  # type: ignore[arg-type]


def test_a_net_is_validated_before_it_trains(tmp_path: Path) -> None:
    """`Trainer.validate` runs in inference mode, the validations of `Trainer.fit` do not."""
    model = LogicClassifier(net(), 2, optimizer=partial(torch.optim.SGD, lr=0.0))
    run = trainer(tmp_path)
    for _ in range(2):
        (validated,) = run.validate(model, loader(130, seed=1), verbose=False)
        run.fit(model, loader(), loader(130, seed=1))
        (tested,) = run.test(model, loader(130, seed=1), verbose=False)
        for name, value in expected_metrics(model.net, *toy(130, 1)).items():
            found = validated[f"val/{name}"], run.callback_metrics.get(f"test/{name}"), tested[f"test/{name}"]
            assert found == pytest.approx((value,) * 3, abs=1e-5), name


def test_a_validation_that_was_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2)
    run = trainer(tmp_path)
    broken = TensorDataset(*toy(50), torch.arange(50))

    def collate(samples: list[tuple[Tensor, ...]]) -> list[Tensor]:
        x, y, place = (torch.stack(column) for column in zip(*samples, strict=True))
        if 20 in place:
            raise RuntimeError("a file is gone")
        return [x, 1 - y]

    with pytest.raises(RuntimeError, match="a file is gone"):
        run.validate(model, DataLoader(broken, 20, collate_fn=collate), verbose=False)
    (validated,) = run.validate(model, loader(130, seed=1), verbose=False)
    assert validated["val/acc_hard"] == pytest.approx(expected_metrics(model.net, *toy(130, 1))["acc_hard"])


def test_validation_leaves_the_modes_as_they_were(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2)
    run = trainer(tmp_path, max_epochs=2, limit_train_batches=1)
    run.fit(model, loader(), loader())
    assert all(m.training for m in model.net.modules())
    run.validate(model, loader(), verbose=False)
    assert all(m.training for m in model.net.modules())


def test_a_loaded_net_trains_and_its_frozen_parts_stay(tmp_path: Path) -> None:
    model = LogicClassifier(net().eval(), 2)
    before = copy.deepcopy(model.net.state_dict())
    trainer(tmp_path).fit(model, loader(), loader())
    assert all(m.training for m in model.net.modules())
    assert any(not torch.equal(part, before[name]) for name, part in model.net.state_dict().items())
    frozen = list(model.net.children())[1].eval()
    trainer(tmp_path).fit(model, loader())
    assert not frozen.training


def test_a_module_in_eval_mode_smooths_labels_when_it_trains(tmp_path: Path) -> None:
    losses = []
    for training in (True, False):
        torch.manual_seed(0)
        model = LogicModule(net(), 2, label_smoothing=0.5).train(training)
        fit = trainer(tmp_path, max_epochs=1)
        fit.fit(model, loader())
        losses.append(fit.callback_metrics["train/loss"])
    assert torch.equal(*losses)


def test_without_a_gpu_no_step_looks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = dict(os.environ)
    searches: list[None] = []
    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", lambda: searches.append(None) or -1)
    trainer(tmp_path).fit(LogicClassifier(net(), 2), loader(n=1000))
    assert len(searches) < 20  # steps
    assert dict(os.environ) == before


def test_mlp_baseline_has_no_gap(tmp_path: Path) -> None:
    model = LogicClassifier(MLP((1, 4, 4), 2, width=16, depth=2), 2)
    run = trainer(tmp_path)
    run.fit(model, loader(), loader(130, seed=1))
    metrics = run.callback_metrics
    assert metrics["val/gap_acc"] == 0
    assert metrics["val/acc_soft"] == metrics["val/acc_hard"]
    acc, loss = accuracy_and_loss(model.net.eval()(toy(130, 1)[0]), toy(130, 1)[1])
    assert metrics["val/acc_hard"].item() == pytest.approx(acc)
    assert metrics["val/loss_hard"].item() == pytest.approx(loss, abs=1e-5)


def test_train_loss_is_logged_at_the_trainers_interval(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if "train/loss" in trainer.callback_metrics:
                seen.append((batch_idx, trainer.callback_metrics["train/loss"].item() - outputs["loss"].item()))

    trainer(tmp_path, log_every_n_steps=3, callbacks=[Watch()]).fit(LogicClassifier(net(), 2), loader())
    assert seen[0] == (2, 0.0)
    assert seen[1][0] == 3
    assert seen[1][1] != 0


def test_logging_can_be_off(tmp_path: Path) -> None:
    run = trainer(tmp_path, log_every_n_steps=0)
    run.fit(LogicClassifier(net(), 2), loader())
    assert "train/loss" not in run.callback_metrics


def test_fast_dev_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, fast_dev_run=True)
    run.fit(LogicClassifier(net(), 2), loader(), loader())
    assert {f"val/{name}" for name in METRICS} <= set(run.callback_metrics)


class _Nan(nn.Module):
    def forward(self, scores: Tensor, y: Tensor) -> Tensor:
        return scores.sum() * torch.nan


def test_nan_loss_stops_training(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2, loss=_Nan())
    with pytest.raises(TrainingError, match="training loss is nan at step 0; lower the learning rate"):
        trainer(tmp_path, log_every_n_steps=1).fit(model, loader())


@pytest.mark.parametrize("num_classes", [1, 0])
def test_a_classifier_has_two_classes(num_classes: int) -> None:
    with pytest.raises(ValueError, match=rf"num_classes={num_classes}, but there are 2 or more; .*yes_no"):
        LogicClassifier(LogicMLP((1, 4, 4), 1, width=64, depth=2), num_classes, loss=nn.BCEWithLogitsLoss())


@pytest.mark.parametrize(("interval", "factor"), [("step", 0.5**4), ("epoch", 0.5)])
def test_scheduler_interval(tmp_path: Path, interval: str, factor: float) -> None:
    model = LogicClassifier(
        net(),
        2,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
        scheduler_interval=interval,
    )
    run = trainer(tmp_path)
    run.fit(model, loader())  # one epoch of 4 steps
    assert run.optimizers[0].param_groups[0]["lr"] == factor


def test_default_optimizer_is_adam() -> None:
    optimizer: Any = LogicClassifier(net(), 2).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.param_groups[0]["fused"]


def test_bad_interval() -> None:
    with pytest.raises(ValueError, match="scheduler_interval='batch' is not 'step' or 'epoch'"):
        LogicClassifier(net(), 2, scheduler_interval="batch")


def test_bf16_mixed_is_close_to_float32(tmp_path: Path) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        model = LogicClassifier(net(), 2)
        run = trainer(tmp_path, precision=precision, log_every_n_steps=1, max_epochs=3)
        run.fit(model, loader(), loader())
        assert model.net[1].weights.dtype == torch.float32
        losses[precision] = run.callback_metrics["train/loss"].item()
        # Bits are exact in bf16: the hard net is the same in both.
        expected = expected_metrics(model.net, *toy())
        assert run.callback_metrics["val/acc_hard"].item() == pytest.approx(expected["acc_hard"])
        assert run.callback_metrics["val/loss_hard"].item() == pytest.approx(expected["loss_hard"], abs=1e-5)
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.02)
    assert losses["bf16-mixed"] != losses["32-true"]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_other_precisions_run(tmp_path: Path, precision: Any) -> None:
    run = trainer(tmp_path, precision=precision, log_every_n_steps=1)
    run.fit(LogicClassifier(net(), 2), loader(), loader())
    assert run.callback_metrics["train/loss"].isfinite()


def test_compile_trains_the_same_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # aot_eager: what can break is tracing and autograd; code generation is PyTorch's and takes a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = LogicClassifier(net(), 2, compile=compiled)
        run = trainer(tmp_path, max_epochs=2, log_every_n_steps=1)
        run.fit(model, loader(130), loader())
        results.append((model.state_dict(), run.callback_metrics))
    (plain, plain_metrics), (traced, traced_metrics) = results
    assert set(plain) == set(traced)
    for key, value in plain.items():
        torch.testing.assert_close(traced[key], value, rtol=1e-4, atol=1e-4)
    assert traced_metrics["train/loss"].item() == pytest.approx(plain_metrics["train/loss"].item(), rel=1e-4)


def test_checkpoint_is_plain_data_and_restores_the_same_net(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2)
    model.recipe = "model: 1\n"
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/acc_hard", mode="max", save_last=True)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[checkpoint])
    run.fit(model, loader(), loader())
    path = tmp_path / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["lgn_recipe"] == "model: 1\n"
    torch.manual_seed(99)
    other = LogicClassifier.load_from_checkpoint(path, net=net(), num_classes=2, weights_only=True)
    x = toy(64, 5)[0]
    for mode in (True, False):
        assert torch.equal(other.net.train(mode)(x), model.net.train(mode)(x))
    resumed = trainer(tmp_path, max_epochs=2)
    torch.manual_seed(98)
    third = LogicClassifier(net(), 2)
    resumed.fit(third, loader(), loader(), ckpt_path=str(path), weights_only=True)
    assert resumed.global_step == 8
    assert torch.equal(third.net[1].indices_a, model.net[1].indices_a)


class _Rank(pl.Callback):
    """Leaves what each rank ends with."""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        path = Path(trainer.default_root_dir, f"rank{trainer.global_rank}.pt")
        torch.save({"state": pl_module.net.state_dict(), "metrics": metrics}, path)


def test_ddp_ranks_agree_and_metrics_cover_all_data(tmp_path: Path) -> None:
    run = trainer(tmp_path, strategy="ddp_fork", devices=2, max_epochs=2, log_every_n_steps=1, callbacks=[_Rank()])
    run.fit(LogicClassifier(net(), 2), loader(batch=25), loader(130, seed=1))
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second["state"][key]) for key, value in first["state"].items())
    assert first["metrics"] == second["metrics"]
    model = net()
    model.load_state_dict(first["state"])
    expected = {f"val/{name}": value for name, value in expected_metrics(model, *toy(130, 1)).items()}
    assert {name: first["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_the_learning_rate_finder_works_through_lr() -> None:
    module = LogicClassifier(
        LogicMLP((1, 8, 8), 10, width=200, depth=2, tau=5.0), parameter_groups={"*1.weights": {"lr": 0.5}}
    )
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=30, accelerator="cpu", **options)  # type: ignore[arg-type]
    found = Tuner(trainer).lr_find(module, datamodule=Digits(), num_training=25)
    assert found is not None
    assert module.lr == found.suggestion() is not None
    optimizer = module.configure_optimizers()
    assert sorted(group["lr"] for group in optimizer.param_groups) == sorted([0.5, module.lr])
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        callbacks=[LearningRateFinder(num_training_steps=20)],
        **options,  # type: ignore[arg-type]
    )
    trainer.fit(module, datamodule=Digits())


def test_rates_of_parameter_groups_are_logged_by_their_patterns(tmp_path: Path) -> None:
    groups = {"*.weights": {"lr": 0.25}}
    learned = LogicMLP((1, 4, 4), 2, 20, 2, connections="learned")
    model = LogicClassifier(learned, 2, optimizer=partial(torch.optim.Adam, lr=0.5), parameter_groups=groups)
    run = trainer(tmp_path, max_steps=3, log_every_n_steps=50)
    run.fit(model, loader())
    logged = {name: value.item() for name, value in run.callback_metrics.items() if name.startswith("train/")}
    assert logged.pop("train/loss") > 0, "short runs log it, too"
    assert run.log_every_n_steps == 50  # type: ignore[attr-defined]  # the user's, for the next training
    assert logged == {"train/lr": 0.5, "train/lr/weights": 0.25}
