import json
import math

import callback_toy as toy
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lgn_lightning.callbacks import GateEntropy
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, logic_layers


def net_of(*rows: list[list[float]]) -> LogicSequential:
    """Layers with the given logits, one list of 16 a gate."""
    layers = []
    for logits in rows:
        layer = LogicLayer(2, len(logits))
        layer.weights.data = torch.tensor(logits)
        layers.append(layer)
    return LogicSequential(*layers, GroupSum(1))


def sure(gate: int) -> list[float]:
    return [1000.0 if i == gate else 0.0 for i in range(16)]


def test_entropy_of_known_distributions_is_in_bits():
    uniform = [0.0] * 16
    two = [math.log(3.0), 0.0] + [-math.inf] * 14  # probabilities 3/4 and 1/4
    values = GateEntropy.summary(net_of([uniform, sure(6)], [two, two, two, sure(1)]))
    h = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert values["gate_entropy/layer_1"] == pytest.approx(2.0)  # (4 + 0) / 2
    assert values["gate_entropy/layer_2"] == pytest.approx(3 * h / 4)
    assert values["gate_entropy/mean"] == pytest.approx((4 + 3 * h) / 6)  # over neurons, not over layers


def test_shares_count_copies_nots_and_constants():
    values = GateEntropy.summary(net_of([sure(g) for g in range(16)], [sure(0), sure(1)]))
    assert values["gates/pass_through_layer_1"] == pytest.approx(4 / 16)  # A, B, not A, not B
    assert values["gates/constant_layer_1"] == pytest.approx(2 / 16)
    assert values["gates/pass_through"] == pytest.approx(4 / 18)
    assert values["gates/constant_layer_2"] == 0.5
    assert values["gates/constant"] == pytest.approx(3 / 18)


def test_histogram_counts_the_gates_that_layers_settle_on():
    net = net_of([sure(6), sure(6), sure(15)], [sure(0), sure(1)])
    counts = [layer.gate_counts().tolist() for layer in logic_layers(net).values()]
    assert counts == [[0] * 6 + [2] + [0] * 8 + [1], [1, 1] + [0] * 14]


def test_logs_the_trained_net_every_n_epochs(tmp_path):
    module, callback = toy.module(), GateEntropy(every_n_epochs=2)
    trainer = toy.trainer(tmp_path, callback, logger=CSVLogger(tmp_path, name="csv"), max_epochs=3)
    trainer.fit(module, toy.loader(), toy.loader(seed=1))
    text = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index("gate_entropy/mean")
    assert [bool(line.split(",")[column]) for line in text[1:]].count(True) == 1

    trainer = toy.trainer(tmp_path, GateEntropy())
    trainer.fit(module, toy.loader(), toy.loader(seed=1))
    expected = GateEntropy.summary(module.net)
    assert len(expected) == 3 + 2 * 3
    for name, value in expected.items():
        assert trainer.callback_metrics[name].item() == pytest.approx(value, rel=1e-6)


def test_a_net_without_gates_logs_nothing(tmp_path):
    module = toy.module(MLP(toy.SHAPE, toy.CLASSES, width=4, depth=2))
    trainer = toy.trainer(tmp_path, GateEntropy())
    trainer.fit(module, toy.loader(), toy.loader(seed=1))
    assert GateEntropy.summary(module.net) == {}
    assert not [name for name in trainer.callback_metrics if name.startswith("gate")]


def test_tensorboard_gets_histograms(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    module = toy.module()
    logger = TensorBoardLogger(tmp_path, name="tb")
    toy.trainer(tmp_path, GateEntropy(), logger=logger).fit(module, toy.loader(), toy.loader(seed=1))
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert sorted(events.Tags()["histograms"]) == ["gates/chosen_layer_1", "gates/chosen_layer_2"]
    assert "gate_entropy/layer_2" in events.Tags()["scalars"]
    histogram = events.Histograms("gates/chosen_layer_1")[0].histogram_value
    counts = dict(zip(histogram.bucket_limit, histogram.bucket, strict=True))
    expected = module.net[1].gate_counts().tolist()
    assert [counts.get(gate + 0.5, 0) for gate in range(16)] == expected


def test_gates_of_three_inputs_have_no_histogram_of_16(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    of = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, arity=3, parametrization="sigmoid")
    logger = TensorBoardLogger(tmp_path, name="tb")
    toy.trainer(tmp_path, GateEntropy(), logger=logger).fit(toy.module(of), toy.loader())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert events.Tags()["histograms"] == []
    assert "gate_entropy/layer_2" in events.Tags()["scalars"]


def test_wandb_offline_gets_histograms(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = {}
    module = toy.module()
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    original = type(logger.experiment).log
    monkeypatch.setattr(
        type(logger.experiment), "log", lambda self, data, *a, **k: (logged.update(data), original(self, data, *a, **k))
    )
    toy.trainer(tmp_path, GateEntropy(), logger=logger).fit(module, toy.loader(), toy.loader(seed=1))
    logger.experiment.finish()
    wandb.teardown()  # waits for the process that writes the file
    histogram = logged["gates/chosen_layer_2"]
    assert list(histogram.histogram) == module.net[2].gate_counts().tolist()
    assert np.allclose(histogram.bins, np.arange(17) - 0.5)
    assert logged["gate_entropy/mean"] == pytest.approx(GateEntropy.summary(module.net)["gate_entropy/mean"])
    files = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert files
    assert b"gates/chosen_layer_2" in files[0].read_bytes()


def test_bad_interval_is_refused():
    with pytest.raises(ValueError, match="every_n_epochs=0"):
        GateEntropy(every_n_epochs=0)


def test_json_of_summary_is_plain():
    assert json.loads(json.dumps(GateEntropy.summary(toy.net())))
