"""The CPU kernels and the circuit library under sanitizers, as `make sanitize` runs them."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.soak
def test_kernels_run_clean_under_sanitizers(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    script = Path(__file__).with_name("sanitize.sh")
    done = subprocess.run([script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "circuits: ok" in done.stdout
    assert done.stdout.count("\nok") >= 1
