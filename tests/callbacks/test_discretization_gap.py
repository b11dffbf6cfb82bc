from pathlib import Path

import callback_toy as toy
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.callbacks import DiscretizationGap, ExportCircuit, GateEntropy
from lgn_lightning.data import Digits
from lgn_lightning.models import MLP, LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, logic_layers
from lgn_lightning.training.classifier import LogicClassifier


def layer_of(*gates: dict[int, float], in_dim: int = 2) -> LogicLayer:
    """Gates as distributions: gate id to probability; all of them read inputs 0 and 1."""
    layer = LogicLayer(in_dim, len(gates))
    layer.weights.data.fill_(-1000.0)
    for neuron, distribution in enumerate(gates):
        for gate, probability in distribution.items():
            layer.weights.data[neuron, gate] = torch.tensor(probability).log()
    layer.indices_a.fill_(0)
    layer.indices_b.fill_(1)
    return layer


AND, XOR, NOR, A, OR = 1, 6, 8, 3, 7


def four_inputs(repeat: int = 1, batch_size: int = 3) -> DataLoader:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(repeat, 1)
    return DataLoader(TensorDataset(x, x[:, 0].long()), batch_size=batch_size)


def known_net() -> LogicSequential:
    # Gate 0: argmax AND (.4) but .35 XOR + .25 OR make it 0.6 at 01 and 10: soft rounds to 1, hard is 0 there (2 of 4).
    # Gate 1: sure A: never differs. So layer 1 differs in 2 of 8 pairs.
    # Layer 2: XOR of both: hard (AND ^ A) = 0 0 1 0 at 00 01 10 11.
    #   Soft inputs p = (0, .6, .6, .65), a = (0, 0, 1, 1): p + a - 2pa = 0 .6 .4 .35, rounded 0 1 0 0: 2 of 4 differ.
    # Second neuron of layer 2: A = gate 0: hard 0 0 0 1, soft rounded 0 1 1 1: 2 of 4 differ.
    return LogicSequential(
        layer_of({AND: 0.4, XOR: 0.35, OR: 0.25}, {A: 1.0}),
        layer_of({XOR: 1.0}, {A: 1.0}),
        GroupSum(2),
    )


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_shares_of_a_net_worked_out_by_hand(tmp_path, batch_size):
    trainer = toy.trainer(tmp_path, DiscretizationGap())
    trainer.validate(toy.module(known_net()), four_inputs(batch_size=batch_size), verbose=False)
    assert trainer.callback_metrics["gap/layer_1"].item() == pytest.approx(2 / 8)
    assert trainer.callback_metrics["gap/layer_2"].item() == pytest.approx(4 / 8)
    assert "gap/layer_3" not in trainer.callback_metrics


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_loss_gap_is_hard_minus_soft_over_samples(tmp_path, batch_size):
    trainer = toy.trainer(tmp_path, DiscretizationGap(max_batches=None))
    trainer.validate(toy.module(known_net()), four_inputs(batch_size=batch_size), verbose=False)
    metrics = trainer.callback_metrics
    expected = metrics["val/loss_hard"] - metrics["val/loss_soft"]
    assert abs(expected) > 0.01
    assert metrics["gap/loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_decided_net_has_no_gap(tmp_path):
    trainer = toy.trainer(tmp_path, DiscretizationGap())
    trainer.validate(toy.module(LogicSequential(layer_of({A: 1.0}, {NOR: 1.0}), GroupSum(2))), four_inputs())
    assert trainer.callback_metrics["gap/layer_1"] == 0
    assert trainer.callback_metrics["gap/loss"] == pytest.approx(0, abs=1e-6)


def test_max_batches_limits_the_measurement(tmp_path):
    # Batches of one sample: 00 first, where gate 0 does not differ.
    trainer = toy.trainer(tmp_path, DiscretizationGap(max_batches=1))
    trainer.validate(toy.module(known_net()), four_inputs(batch_size=1), verbose=False)
    assert trainer.callback_metrics["gap/layer_1"] == 0


def test_every_n_epochs_and_no_hooks_and_modes_left(tmp_path):
    seen = []

    class Look(Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append("gap/layer_1" in trainer.logged_metrics)
            layers = logic_layers(pl_module).values()
            assert not any(layer._forward_hooks or layer.training for layer in layers)
            trainer.logged_metrics.clear()
            trainer.callback_metrics.clear()

    module = toy.module()
    trainer = toy.trainer(tmp_path, DiscretizationGap(every_n_epochs=2), Look(), max_epochs=4, num_sanity_val_steps=1)
    trainer.fit(module, toy.loader(), toy.loader(seed=1))
    assert not seen[0]  # the sanity check
    assert seen[1:] == [False, True, False, True]


def test_hooks_are_removed_when_the_net_fails(tmp_path):
    module = toy.module(known_net())
    callback = DiscretizationGap()
    trainer = toy.trainer(tmp_path, callback)
    module.net.append(_FailsWhenSoft(module.net[0]))
    with pytest.raises(RuntimeError, match="soft"):
        trainer.validate(module, four_inputs(), verbose=False)
    assert not any(layer._forward_hooks for layer in logic_layers(module).values())


class _FailsWhenSoft(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = (layer,)

    def forward(self, x):
        if self.layer[0].training and self.layer[0]._forward_hooks:
            raise RuntimeError("soft")
        return x


def test_training_is_not_changed_by_measuring(tmp_path):
    results = []
    for callbacks in ([], [DiscretizationGap()]):
        module = toy.module()
        toy.trainer(tmp_path, *callbacks, max_epochs=2).fit(module, toy.loader(), toy.loader(seed=1))
        results.append(module.net[1].weights.detach())
    assert torch.equal(*results)


def test_a_net_without_gates_logs_nothing(tmp_path):
    module = toy.module(MLP(toy.SHAPE, toy.CLASSES, width=4, depth=2))
    trainer = toy.trainer(tmp_path, DiscretizationGap())
    trainer.validate(module, toy.loader(), verbose=False)
    assert not [name for name in trainer.callback_metrics if name.startswith("gap/")]


@pytest.mark.parametrize("options", [{"every_n_epochs": 0}, {"max_batches": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        DiscretizationGap(**options)


def test_gap_of_a_convolution_is_the_share_of_differing_neurons(tmp_path: Path) -> None:
    net = LogicTreeNet((1, 8, 8), 10, [16], [200, 100], thresholds=1)
    for layer in net.modules():
        if hasattr(layer, "weights"):
            torch.nn.init.normal_(layer.weights)
    module = LogicClassifier(net)
    data = Digits(val_fraction=0.05, eval_batch_size=500)
    run = toy.trainer(tmp_path, DiscretizationGap(max_batches=None))
    run.validate(module, data, verbose=False)
    (images, _), *_ = data.val_dataloader()
    with torch.no_grad():
        soft = net[1].train()(net[0](images))
        hard = net[1].eval()(net[0](images))
    expected = ((soft > 0.5) != (hard > 0.5)).float().mean().item()
    assert expected > 0.01
    assert run.callback_metrics["gap/layer_1"].item() == pytest.approx(expected, abs=1e-5)


def test_two_processes_log_what_one_would_and_export_once(tmp_path):
    module = toy.module()
    data = toy.images(7, seed=1)
    validation = DataLoader(data, batch_size=2, sampler=toy.Uneven(len(data)))
    trainer = toy.trainer(
        tmp_path,
        DiscretizationGap(),
        GateEntropy(),
        ExportCircuit(),
        strategy="ddp_fork",
        devices=2,
        enable_checkpointing=True,
        use_distributed_sampler=False,
    )
    trainer.fit(module, toy.loader(), validation)
    logged = trainer.callback_metrics

    alone = toy.trainer(tmp_path, DiscretizationGap())
    alone.validate(module, DataLoader(data, batch_size=7), verbose=False)
    names = [name for name in alone.callback_metrics if name.startswith("gap/")]
    assert len(names) == 3
    for name in names:
        assert logged[name].item() == pytest.approx(alone.callback_metrics[name].item(), rel=1e-4), name
    assert any(logged[f"gap/layer_{i}"] > 0 for i in (1, 2))
    for name, value in GateEntropy.summary(module.net).items():
        assert logged[name].item() == pytest.approx(value, rel=1e-6)

    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    assert exported.manifest["check"]["samples"] == 6  # those of rank zero
    assert [path.name for path in (tmp_path / "circuits").iterdir()] == ["epoch=0-step=3"]
