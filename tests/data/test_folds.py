import numpy as np
import pandas as pd
import pytest

from lgn_lightning.data import DataError, Digits, Table


def frame(rows: int = 60) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    kind = generator.choice(["a", "b", "c"], rows)
    return pd.DataFrame({"x": generator.normal(size=rows), "group": np.arange(rows) // 4, "kind": kind})


@pytest.mark.parametrize("group", [None, "group"])
def test_folds_are_the_training_rows_each_once(group) -> None:
    whole = Table.of_frame(frame(), "kind", group=group)
    train = {row.numpy().tobytes() for row in whole._load_train().rows}
    seen: list[bytes] = []
    for fold in range(3):
        table = Table.of_frame(frame(), "kind", group=group, folds=3, fold=fold, drop_last=False)
        tested = {row.numpy().tobytes() for row in table.test_samples()[0]}
        trained = {row.numpy().tobytes() for row in table.training_samples()[0]}
        validated = {row.numpy().tobytes() for x, _ in table.val_dataloader() for row in x}
        assert tested | trained | validated == train
        assert len(tested) + len(trained) + len(validated) == len(train)
        if group is None:
            counts = table.test_samples()[1].bincount(minlength=3)
            assert (counts - whole._load_train().labels.bincount(minlength=3) / 3).abs().max() <= 1
        seen += tested
    assert set(seen) == train
    assert len(seen) == len(train)
    with pytest.raises(ValueError, match="folds=3, fold=3"):
        Table.of_frame(frame(), "kind", folds=3, fold=3)


def test_a_fold_without_rows_is_refused() -> None:
    """Groups are whole, so there may be more folds than groups."""
    table = Table.of_frame(frame(), "kind", group="group", folds=40, fold=39)
    with pytest.raises(DataError, match=r"fold 39 of 40 leaves none of the \d+ rows to test on: give fewer folds"):
        table.training_samples()


def test_images_have_folds_too() -> None:
    sizes = [len(Digits(folds=4, fold=fold).test_samples()[1]) for fold in range(4)]
    assert sum(sizes) == len(Digits()._load_train()[1])
    assert max(sizes) - min(sizes) <= 10


@pytest.mark.parametrize(
    ("target", "task"),
    [("kind", "class"), ("few", "class"), ("many", "number"), ("real", "number"), (["yes", "flag"], "labels")],
)
def test_what_a_target_holds_is_found(target, task: str) -> None:
    rows = np.arange(60)
    table = frame().drop(columns="group")
    table = table.assign(few=rows % 3, many=rows, real=rows / 7, yes=np.where(rows % 2, "yes", "no"), flag=rows % 2)
    data = Table.of_frame(table, target)
    data.setup()
    assert data.task == task
    assert data.num_classes == {"class": 3, "number": 1, "labels": 2}[task]
