"""What every test starts from: a fixed seed, and no GPU tests where there is no GPU."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Tests run side by side: threads that wait for a busy core cost more than they bring. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from torch.utils.data import BatchSampler, DataLoader

from lgn_lightning.cli.main import main

settings.register_profile("lgn", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("lgn")


def pytest_collection_finish() -> None:
    """Takes what is imported by now out of every later garbage collection, of tests and of their forks."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loaders_as_they_were() -> Iterator[None]:
    """Lightning patches these classes while it asks for loaders, and leaves them so if that raises."""
    yield
    for cls in (DataLoader, BatchSampler):
        for name in ("__init__", "__setattr__", "__delattr__"):
            if f"__old{name}" in vars(cls):
                setattr(cls, name, getattr(cls, f"__old{name}"))
                delattr(cls, f"__old{name}")


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training, for tests that only read it: one training serves all of them."""
    folder = tmp_path_factory.mktemp("trained")
    size = ["--model.net.width=300", "--model.net.depth=3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "digits", *size, "--trainer.max_steps=60", "--trainer.val_check_interval=20"]) == 0
    return folder / "runs" / "digits" / "version_0"
