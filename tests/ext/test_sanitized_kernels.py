"""The CPU kernels and the circuit library under sanitizers (`make sanitize`) and on 64-bit Arm, emulated."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ARM = {"CXX": "aarch64-linux-gnu-g++", "CHECKS": "-static", "RUN": "qemu-aarch64"}


@pytest.mark.soak
@pytest.mark.parametrize("settings", [{"CXX": "g++"}, ARM], ids=["sanitizers", "arm"])
def test_kernels_run_clean(tmp_path: Path, settings: dict[str, str]) -> None:
    for program in (settings["CXX"], settings.get("RUN", "sh")):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    script = Path(__file__).with_name("sanitize.sh")
    environment = {**os.environ, **settings}
    done = subprocess.run([script, tmp_path], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "circuits: ok" in done.stdout
    assert done.stdout.count("\nok") >= 1
