"""All callbacks at once on two processes, with a validation split that does not divide."""

import callback_toy as toy
import pytest
from torch.utils.data import DataLoader

from lgn_lightning.callbacks import DiscretizationGap, ExportCircuit, GateEntropy


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
