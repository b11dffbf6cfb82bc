from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier, LogicModule, LogicRegressor, load_net, soft_gates
from lgn_lightning.base.errors import DataError
from lgn_lightning.losses import FocalLoss
from lgn_lightning.models import MLP, LogicMLP, LogicRNN
from lgn_lightning.training.targets import Labels, Number, YesNo, describe_target, make_target
from lgn_lightning.training.thresholds import best_threshold
from tests.training import toy
from tests.training.table_toy import TARGETS, fitted, labels, loader, module, net, rows

KINDS = list(TARGETS)
#: What an untrained net has of the metric that fits.
BETTER_THAN = {"classes": 0.8, "yes_no": 0.9, "labels": 0.9, "number": 0.6, "numbers": 0.5, "ordinal": 0.8}


def expected(kind: str, decided: Tensor, counts: Tensor, y: Tensor) -> dict[str, float]:
    """The metrics by scikit-learn, of decisions and sums."""
    d, c, t = (part.double().numpy() for part in (decided, counts, y))
    if kind == "classes":
        return {"acc": sk.accuracy_score(t, d)}
    if kind == "ordinal":
        kappa = sk.cohen_kappa_score(t, d, weights="quadratic")
        return {"acc": sk.accuracy_score(t, d), "kappa": kappa, "mae": sk.mean_absolute_error(t, d)}
    if kind.startswith("number"):
        scale = 1 if kind == "number" else labels(rows(), kind).double().std(0, correction=0).numpy()
        r2 = sk.r2_score((t / scale).ravel(), (d / scale).ravel()) if kind == "number" else math.nan
        return {"r2": r2, "rmse": math.sqrt(((t - d) ** 2).mean()), "mae": np.abs(t - d).mean()}
    several = {"exact": (t == d).all(1).mean()} if kind == "labels" else {}
    flat = t.ravel(), d.ravel()
    return several | {
        "acc": sk.accuracy_score(*flat),
        "f1": sk.f1_score(*flat),
        "precision": sk.precision_score(*flat),
        "recall": sk.recall_score(*flat),
        "auc": sk.roc_auc_score(t, c, average="macro"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_logs_what_scikit_learn_computes(tmp_path: Path, kind: str) -> None:
    trained, run = fitted(tmp_path, kind, of=net(kind, sampler="soft"))
    logged = {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}
    x = rows(130, 1)
    y, target = labels(x, kind), trained.target
    trained.eval()
    with torch.no_grad():
        scores = trained(x)
        with soft_gates(trained):
            soft_scores = trained(x)
    for mode, values in (("hard", scores), ("soft", soft_scores)):
        counts = target.counts(values, mode == "hard")
        wanted = expected(kind, target.decide(counts), counts, y)
        found = {name: logged[f"{name}_{mode}"] for name, value in wanted.items() if not math.isnan(value)}
        assert found == pytest.approx({name: v for name, v in wanted.items() if not math.isnan(v)}, rel=1e-5, abs=1e-6)
        assert logged[f"loss_{mode}"] == pytest.approx(trained.loss_of(values, y).item(), rel=1e-4)
    main = target.main
    assert logged["score_hard"] == logged[f"{main}_hard"]
    assert logged[f"gap_{main}"] == pytest.approx(logged[f"{main}_soft"] - logged[f"{main}_hard"], abs=1e-6)
    predicted = torch.cat(run.predict(trained, loader(kind, 130, 1)))  # type: ignore[arg-type]
    assert torch.equal(predicted, target.decide((scores * target.tau).round() if kind != "classes" else scores))


@pytest.mark.parametrize("kind", KINDS)
def test_the_net_that_ships_learns(tmp_path: Path, kind: str) -> None:
    _, run = fitted(tmp_path, kind, epochs=15)
    assert run.callback_metrics["val/score_hard"] > BETTER_THAN[kind]
    assert abs(run.callback_metrics[f"val/gap_{module(kind).target.main}"]) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_hold_what_was_learned(tmp_path: Path, kind: str) -> None:
    trained, run = fitted(tmp_path, kind, epochs=2)
    run.save_checkpoint(tmp_path / "net.ckpt")
    options: dict[str, Any] = {"net": net(kind)}
    again = LogicModule.load_from_checkpoint(tmp_path / "net.ckpt", **options)
    assert again.target.decoding() == trained.target.decoding()
    x = rows(50, 3)
    counts = [m.target.counts(m.eval()(x), hard=True) for m in (trained, again)]
    assert torch.equal(trained.target.decide(counts[0]), again.target.decide(counts[1]))


def test_a_resumed_regression_keeps_its_scale(tmp_path: Path) -> None:
    trained, run = fitted(tmp_path, "number", epochs=1)
    run.save_checkpoint(tmp_path / "net.ckpt")
    again = LogicRegressor.load_from_checkpoint(tmp_path / "net.ckpt", net=net("number"))
    toy.trainer(tmp_path, max_epochs=1).fit(again, loader("number", 60, 7))
    assert isinstance(again.target, Number)
    assert isinstance(trained.target, Number)
    assert torch.equal(again.target.mean, trained.target.mean)
    assert float(trained.target.mean) == pytest.approx(labels(rows(), "number").double().mean().item())


@pytest.mark.parametrize("target", ["yes_no", YesNo("recall", 0.95)])
def test_nets_of_the_library_are_rebuilt_from_their_checkpoints(tmp_path: Path, target: Any) -> None:
    built = LogicClassifier(LogicMLP((1, 4, 4), 1, width=64, depth=2, tau=4.0), 2, target=target)
    run = toy.trainer(tmp_path)
    run.fit(built, toy.loader(), toy.loader(seed=1))
    run.save_checkpoint(tmp_path / "net.ckpt")
    again = LogicClassifier.load_from_checkpoint(tmp_path / "net.ckpt")
    assert isinstance(again.target, YesNo)
    assert (again.target.by, again.target.recall) == (built.target.by, built.target.recall)  # type: ignore[union-attr]
    x = toy.toy(40, 2)[0]
    assert torch.equal(load_net(tmp_path / "net.ckpt")(x), built.eval()(x))


def test_a_baseline_without_gates_is_measured_alike(tmp_path: Path) -> None:
    x, _ = toy.toy(200)
    brightness = x.float().mean((1, 2, 3))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, brightness), 50)
    run = toy.trainer(tmp_path, max_epochs=100)
    run.fit(LogicRegressor(MLP((1, 4, 4), 1, width=32, depth=2)), data, data)
    assert run.callback_metrics["val/r2_hard"] > 0.5
    assert run.callback_metrics["val/gap_r2"] == 0
    run = toy.trainer(tmp_path, max_epochs=20)
    run.fit(LogicClassifier(MLP((1, 4, 4), 1, width=16, depth=2), target="yes_no"), toy.loader(), toy.loader())
    assert run.callback_metrics["val/auc_hard"] > 0.9


def brute_force(counts: NDArray[Any], y: NDArray[Any], by: str, recall: float) -> float:
    """The best quality that any threshold has."""
    qualities = []
    for threshold in [*np.unique(counts), counts.max() + 1]:
        decided = counts >= threshold
        if by == "accuracy":
            qualities.append((decided == y).mean())
        elif by == "f1":
            qualities.append(sk.f1_score(y, decided, zero_division=0))
        elif y.sum() == 0 or decided[y == 1].mean() >= recall - 1e-9:
            qualities.append(-decided.mean())
    return float(max(qualities))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["accuracy", "f1", "recall"]),
    st.floats(0.05, 1),
)
def test_no_threshold_is_better_than_the_chosen_one(pairs: list[tuple[int, bool]], by: str, recall: float) -> None:
    counts, y = (np.array(part) for part in zip(*pairs, strict=True))
    chosen = best_threshold(torch.tensor(counts), torch.tensor(y), by, recall, 4.5)
    decided = counts >= chosen
    quality = {
        "accuracy": lambda: (decided == y).mean(),
        "f1": lambda: sk.f1_score(y, decided, zero_division=0),
        "recall": lambda: -decided.mean(),
    }[by]()
    assert quality == pytest.approx(brute_force(counts, y, by, recall))
    if by == "recall" and y.any():
        assert decided[y].mean() >= recall - 1e-9


def test_validation_chooses_the_threshold_of_a_rare_class(tmp_path: Path) -> None:
    trained, run = fitted(tmp_path, "yes_no", epochs=3, target=YesNo("recall", 1.0))
    assert run.callback_metrics["val/recall_hard"] == 1
    chosen = trained.target.threshold.clone()  # type: ignore[union-attr]
    run.test(trained, loader("yes_no", 80, 5), verbose=False)
    run.validate(trained, loader("yes_no", 80, 6), verbose=False)
    assert torch.equal(trained.target.threshold, chosen), "only a training chooses"  # type: ignore[arg-type]


def test_early_stopping_goes_by_the_metric(tmp_path: Path) -> None:
    stop = EarlyStopping("val/score_hard", mode="max", patience=2)
    run = toy.trainer(tmp_path, max_epochs=200, callbacks=[stop])
    run.fit(module("yes_no"), loader("yes_no"), loader("yes_no", 130, 1))
    assert stop.stopped_epoch > 0
    assert run.current_epoch < 200


BAD = {
    "classes": (torch.tensor([0, 3]), "classes go from 0 to 2"),
    "yes_no": (torch.tensor([0, 2]), "a label is 2, but 0 and 1"),
    "labels": (torch.tensor([0, 1]), r"give 0 or 1, \[batch, 3\]"),
    "number": (torch.tensor([1, 2]), r"give floats \[batch\]"),
    "numbers": (torch.tensor([[1.0, math.nan]]), "a label is nan"),
    "ordinal": (torch.tensor([0, 4]), "classes go from 0 to 3"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_none_are_refused(kind: str) -> None:
    good = labels(rows(5), kind)
    module(kind).target.check(good)
    bad, message = BAD[kind]
    with pytest.raises(DataError, match=message):
        module(kind).target.check(bad)


def test_a_class_at_every_step(tmp_path: Path) -> None:
    """Accuracy and loss are of the steps that count."""
    torch.manual_seed(0)
    x, y = torch.randint(2, (40, 6, 3)).to(torch.uint8), torch.randint(3, (40, 6))
    y[:, 4:] = -100
    x[:, 4:] = 255
    rnn = LogicRNN(3, in_bits=3, state=6, width=20, out=12, readout="every")
    made = LogicModule(rnn, 3, target="steps")
    batches = DataLoader(TensorDataset(x, y), batch_size=20)
    trainer = toy.trainer(tmp_path)
    trainer.fit(made, batches, batches)
    decided = made.target.decide(rnn.eval()(x))
    values = trainer.validate(made, batches, verbose=False)[0]
    assert values["val/acc_hard"] == pytest.approx(sk.accuracy_score(y[:, :4].flatten(), decided[:, :4].flatten()))
    assert describe_target(made.target) == "steps"
    for bad, message in ((y[:, 0], "a class at every step"), (y + 3, "from 0 to 2")):
        with pytest.raises(DataError, match=message):
            made.target.check(bad)
    with pytest.raises(ValueError, match="set readout to every"):
        made.target.outputs(torch.zeros(4, 3))


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="target='clases' is not one of 'classes', 'yes_no'"):
        LogicModule(net("classes"), 3, target="clases")
    with pytest.raises(ValueError, match="two classes"):
        LogicModule(net("yes_no"), 3, target="yes_no")
    with pytest.raises(ValueError, match="choose='best'"):
        Labels("best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="recall=0"):
        YesNo("recall", 0)
    with pytest.raises(ValueError, match="none of the targets"):
        make_target({"class_path": "os.system", "init_args": {}})
    with pytest.raises(DataError, match=r"model.net.num_classes is 3; set --model.net.num_classes=1"):
        toy.trainer(Path()).fit(module("yes_no", net("classes")), loader("yes_no"))


def test_a_target_describes_itself() -> None:
    for target in (YesNo("recall", 0.7), Labels(), Number()):
        again = make_target(describe_target(target))  # type: ignore[arg-type]
        assert type(again) is type(target)
        assert again.options == target.options


def test_labels_are_smoothed_in_training_alone() -> None:
    smoothed = LogicModule(net("classes"), 3, label_smoothing=0.2)
    scores, y = torch.randn(8, 3), torch.randint(3, (8,))
    expected = nn.CrossEntropyLoss(label_smoothing=0.2)(scores, y)
    torch.testing.assert_close(smoothed.train().loss_of(scores, y), expected)
    torch.testing.assert_close(smoothed.eval().loss_of(scores, y), nn.CrossEntropyLoss()(scores, y))
    with pytest.raises(ValueError, match="label_smoothing=1"):
        LogicModule(net("classes"), 3, label_smoothing=1.0)


@pytest.mark.parametrize("sigmoids", [False, True])
def test_focal_loss(sigmoids: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(8, 3, requires_grad=True)
    y = (torch.rand(8, 3) > 0.5).float() if sigmoids else torch.randint(3, (8,))
    plain: nn.Module = nn.BCEWithLogitsLoss() if sigmoids else nn.CrossEntropyLoss()
    torch.testing.assert_close(FocalLoss(0)(scores, y), plain(scores, y))
    p = torch.sigmoid(scores) if sigmoids else torch.softmax(scores, 1)
    right = torch.where(y > 0.5, p, 1 - p) if sigmoids else p[torch.arange(8), y]
    torch.testing.assert_close(FocalLoss(2)(scores, y), (-((1 - right) ** 2) * right.log()).mean())
    weight = torch.tensor([1.0, 2.0, 5.0])
    weighted = nn.CrossEntropyLoss(weight)(scores, y) if not sigmoids else None
    if weighted is not None:
        torch.testing.assert_close(FocalLoss(0, weight)(scores, y), weighted)
    (100 * FocalLoss(0.5)(100 * scores, y)).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_loss_that_makes_nothing_of_a_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CrossEntropyLoss means nothing for the target Number, .* is MSELoss\(\)"):
        LogicRegressor(net("number"), 1, loss=nn.CrossEntropyLoss())
    assert isinstance(LogicRegressor(net("number"), 1, loss=nn.HuberLoss()).loss, nn.HuberLoss)
    for kind in ("yes_no", "ordinal"):  # by one score, of which a softmax makes one, whatever it is
        with pytest.raises(ValueError, match="CrossEntropyLoss means nothing for the target"):
            module(kind, loss=nn.CrossEntropyLoss())


def test_numbers_whose_spread_no_number_holds_are_refused() -> None:
    target = Number()
    target.prepare(1, net("number"))
    with pytest.raises(DataError, match=r"labels reach 1e\+200, of which float64 holds no squares: divide them"):
        target.fit(torch.tensor([0.0, 1e200], dtype=torch.float64))
