import warnings

import callback_toy as toy
import pytest
from lightning.pytorch import Callback

from lgn_lightning.callbacks import FpgaCost, fpga_cost
from lgn_lightning.circuit import Circuit, estimate, optimize
from lgn_lightning.models import MLP, LogicMLP


def net() -> LogicMLP:
    return LogicMLP(toy.SHAPE, toy.CLASSES, width=40, depth=2, tau=2.0, connections="random")


def test_logs_what_the_estimate_says(tmp_path):
    trainer, module = toy.trainer(tmp_path, FpgaCost()), toy.module(net())
    trainer.validate(module, toy.loader(), verbose=False)
    cost = estimate(optimize(Circuit.from_module(module.net.eval())))
    logged = trainer.callback_metrics
    assert logged["fpga/lut6"] == cost.total("lut6") > 0
    assert logged["fpga/depth"] == cost.total("levels") > 0
    assert 0 < logged["fpga/lut6_sums"] <= logged["fpga/lut6"]


def test_measures_at_each_nth_validation_of_a_training(tmp_path, monkeypatch):
    """A resumed one, too, as if it had not been stopped; and a second one as the first."""
    at = []

    class Clock(Callback):
        def on_validation_epoch_start(self, trainer, *_):
            at.append(trainer.global_step)

    measured = []
    monkeypatch.setattr(fpga_cost, "estimate", lambda circuit: measured.append(at[-1]) or estimate(circuit))

    def fit(callback, steps, resume=None):
        trainer = toy.trainer(tmp_path, Clock(), callback, max_steps=steps, max_epochs=-1)
        trainer.fit(toy.module(net()), toy.loader(), toy.loader(), ckpt_path=resume)
        return trainer

    every = len(toy.loader())
    callback = FpgaCost(every_n_validations=2)
    for _ in range(2):
        fit(callback, 3 * every).save_checkpoint(tmp_path / "x.ckpt")
        assert measured == [2 * every]
        measured.clear()
    fit(FpgaCost(every_n_validations=2), 6 * every, tmp_path / "x.ckpt")
    assert measured == [4 * every, 6 * every]
    with pytest.raises(ValueError, match="at least 1"):
        FpgaCost(0)


def test_is_silent_for_nets_without_gates(tmp_path):
    trainer = toy.trainer(tmp_path, FpgaCost())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.validate(toy.module(MLP(toy.SHAPE, toy.CLASSES, 4, 2)), toy.loader(), verbose=False)
    assert not [w for w in caught if "FpgaCost" in str(w.message)]
    assert "fpga/lut6" not in trainer.callback_metrics
