import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from lgn_lightning.callbacks import FitThresholds
from lgn_lightning.nn import GroupSum, LogicLayer, Threshold
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages


def classifier() -> LogicClassifier:
    encoder = Threshold(3, (2, 4, 4), spacing="quantile")
    return LogicClassifier(nn.Sequential(encoder, LogicLayer(96, 100), GroupSum(10)))


def trainer(tmp_path: object, **options: object) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FitThresholds()],
        **options,  # type: ignore[arg-type]
    )


def test_levels_are_quantiles_of_the_training_split_and_survive_a_resumption(tmp_path: object) -> None:
    data = SyntheticImages([2, 4, 4])
    module = classifier()
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    run.fit(module, data)
    images = torch.cat([x for x, _ in data.train_dataloader()])
    assert len(images) == 30
    for channel in range(2):
        shares = [(images[:, channel] <= level).float().mean().item() for level in module.net[0].levels[:, channel]]
        assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.01)

    path = f"{tmp_path}/last.ckpt"
    run.save_checkpoint(path)
    resumed = classifier()
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(
        resumed, SyntheticImages([2, 4, 4], count=80), ckpt_path=path
    )
    assert torch.equal(resumed.net[0].levels, module.net[0].levels)


def test_without_a_data_module_it_says_what_to_do(tmp_path: object) -> None:
    loader = [(torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(ValueError, match=r"ImageDataModule.* encoder\.fit_levels"):
        trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(classifier(), loader)
