import warnings

import callback_toy as toy
import pytest

from lgn_lightning.callbacks import FpgaCost
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


def test_measures_at_each_nth_validation(tmp_path):
    trainer, module = toy.trainer(tmp_path, FpgaCost(every_n_validations=2)), toy.module(net())
    trainer.validate(module, toy.loader(), verbose=False)
    assert "fpga/lut6" not in trainer.callback_metrics
    trainer.validate(module, toy.loader(), verbose=False)
    assert "fpga/lut6" in trainer.callback_metrics
    with pytest.raises(ValueError, match="at least 1"):
        FpgaCost(0)


def test_is_silent_for_nets_without_gates(tmp_path):
    trainer = toy.trainer(tmp_path, FpgaCost())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.validate(toy.module(MLP(toy.SHAPE, toy.CLASSES, 4, 2)), toy.loader(), verbose=False)
    assert not [w for w in caught if "FpgaCost" in str(w.message)]
    assert "fpga/lut6" not in trainer.callback_metrics
