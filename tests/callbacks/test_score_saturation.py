import warnings

import callback_toy as toy
import pytest
import torch
from torch import nn

from lgn_lightning.callbacks import ScoreSaturation
from lgn_lightning.models import MLP
from lgn_lightning.nn import GroupSum


class Scores(nn.Module):
    """Scores that say the class of three of four images, with a certainty of their own; the group sum gives tau."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size))
        self.group_sum = GroupSum(2, 4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bit = (x[:, 0, 0, 0] > 127).float()
        wrong = torch.arange(len(x)) % 4 == 0
        bit = torch.where(wrong, 1 - bit, bit)
        return self.group_sum(torch.stack((1 - bit, bit), 1) * self.size * 4)


def test_measures_the_temperature_that_fits(tmp_path):
    # Right for 3 of 4: the best difference of scores is log 3, so the best temperature is size / log 3.
    for size, saturated in ((1.0, 0.0), (4.0, 0.0), (9.0, 1.0)):
        trainer = toy.trainer(tmp_path, ScoreSaturation())
        trainer.validate(toy.module(Scores(size)), toy.loader(), verbose=False)
        fitted = trainer.callback_metrics["scores/temperature"].item()
        assert fitted == pytest.approx(size / torch.tensor(3.0).log().item(), rel=0.05)
        assert trainer.callback_metrics["scores/saturated"].item() == saturated


def test_warns_once_and_says_what_to_do(tmp_path):
    trainer = toy.trainer(tmp_path, ScoreSaturation(), max_epochs=3)
    net = Scores(9.0)
    module = toy.module(net)
    module._make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, toy.loader(), toy.loader())
    told = [str(w.message) for w in caught if "saturate" in str(w.message)]
    assert len(told) == 1
    assert "100% of the validation samples" in told[0]
    assert "try tau=32 instead of 4" in told[0]


def test_says_nothing_of_a_net_that_is_not_saturated_or_has_no_group_sum(tmp_path):
    for net in (Scores(1.0), Scores(4.0), MLP(toy.SHAPE, toy.CLASSES, 4, 2)):
        trainer = toy.trainer(tmp_path, ScoreSaturation())
        module = toy.module(net)
        module._make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.fit(module, toy.loader(), toy.loader())
        assert not [w for w in caught if "saturate" in str(w.message)]
        assert ("scores/saturated" in trainer.callback_metrics) == isinstance(net, Scores)


def test_only_the_first_batches_count(tmp_path):
    trainer = toy.trainer(tmp_path, callback := ScoreSaturation(max_batches=1))
    calls = []
    module = toy.module(Scores(1.0))
    module.register_forward_hook(lambda *_: calls.append(1))
    trainer.validate(module, toy.loader(), verbose=False)
    assert callback._sums is None
    # Each of the three batches is evaluated once by the module; one of them once more by the callback.
    assert len(calls) == 3 + 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="limit=1"):
        ScoreSaturation(limit=1)
    with pytest.raises(ValueError, match="max_batches=0"):
        ScoreSaturation(max_batches=0)
