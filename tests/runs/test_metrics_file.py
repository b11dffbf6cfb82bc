"""``metrics.csv``, whole, cut and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from lgn_lightning.base.errors import RunError
from lgn_lightning.runs.metrics_file import read_metrics
from lgn_lightning.runs.run_logger import RunLogger


def test_a_row_that_a_kill_has_cut_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,loss\n0,1,0.25\n0,2,0.12")
    assert read_metrics(file) == [{"epoch": "0", "step": "1", "loss": "0.25"}]
    for cut in ("", "epoch,st", "epoch,step,loss\n"):
        file.write_text(cut)
        assert read_metrics(file) == []


@pytest.mark.parametrize(
    "content",
    [
        b"epoch,loss\n0,1\n",
        b"step,loss\n1\n",
        b"step,loss\n1,2,3\n",
        b"step,loss\nx,2\n",
        b"step,loss\n1.5,2\n",
        b"step,loss\n" + b"9" * 30 + b",2\n",
        b"step,loss\n-1,2\n",
        "step,loss\n٣,2\n".encode(),
        b"step,loss\n1,\xff\n",
        b"step,loss\n1," + b"a" * 200_000 + b"\n",
    ],
    ids=lambda content: content[:30].decode("latin1"),
)
def test_damage_is_one_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "runs" / "x" / "metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.csv is no table of metrics"):
        read_metrics(file)
    with pytest.raises(RunError, match=r"metrics\.csv is no table of metrics"):  # a resumed run
        RunLogger(tmp_path, "runs", "x", resume_at=5).experiment  # noqa: B018
    assert file.read_bytes() == content
