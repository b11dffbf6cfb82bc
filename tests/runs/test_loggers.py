"""TensorBoard's hyperparameters are plain values, one a key."""

from pathlib import Path

from jsonargparse import Namespace

from lgn_lightning.runs.loggers import RunTensorBoardLogger, plain_values
from lgn_lightning.runs.run_logger import RunLogger

SETTINGS = Namespace(
    config=["model: {net: …}"],
    seed_everything=0,
    model=Namespace(
        net=Namespace(
            class_path="lgn_lightning.models.LogicMLP", init_args=Namespace(width=[300, 200], tau=5.0, depth=None)
        ),
        lr_scheduler=None,
    ),
    trainer=Namespace(
        fast_dev_run=False,
        callbacks=[
            Namespace(class_path="lightning.pytorch.callbacks.ModelCheckpoint", init_args=Namespace(mode="min")),
            Namespace(class_path="lgn_lightning.callbacks.GateEntropy"),
        ],
    ),
)
PLAIN = {
    "seed_everything": 0,
    "model.net": "LogicMLP",
    "model.net.width": "300, 200",
    "model.net.tau": 5.0,
    "trainer.fast_dev_run": False,
    "trainer.callbacks": "ModelCheckpoint, GateEntropy",
}


def test_settings_are_flattened() -> None:
    assert plain_values(SETTINGS) == plain_values(SETTINGS.as_dict()) == PLAIN


def test_tensorboard_gets_them(tmp_path: Path) -> None:
    logger = RunTensorBoardLogger(RunLogger(tmp_path, "digits", "version_0"))
    logger.log_hyperparams(SETTINGS)
    logger.save()
    logger.finalize("success")
    assert logger.hparams == PLAIN
    text = b"".join(path.read_bytes() for path in (tmp_path / "digits" / "version_0").glob("events*"))
    assert b"model.net.tau" in text
    assert b"Namespace" not in text
