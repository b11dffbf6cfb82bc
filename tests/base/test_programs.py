import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from lgn_lightning.base.programs import hangup_like_sigterm, raised_stop_signals, running

#: Starts a program that starts another one; both write their numbers and sleep.
_SLEEPERS = ["sh", "-c", "sleep 60 & echo $$ $! > pids; wait"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(folder: Path) -> list[int]:
    """The numbers that the sleepers wrote, once they are there."""
    path, end = folder / "pids", time.monotonic() + 30
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < end
        time.sleep(0.01)
    return [int(word) for word in path.read_text().split()]


def gone(found: list[int]) -> bool:
    end = time.monotonic() + 10
    while any(alive(pid) for pid in found) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(alive(pid) for pid in found)


def test_a_program_ends_with_its_block_and_takes_along_what_it_started(tmp_path: Path) -> None:
    with running(_SLEEPERS, cwd=tmp_path):
        found = pids(tmp_path)
        assert all(alive(pid) for pid in found)
    assert gone(found)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_ends_when_a_signal_ends_us(tmp_path: Path, stop: signal.Signals) -> None:
    script = f"""
import signal
from lgn_lightning.base.programs import running
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without one
signal.signal(signal.SIGHUP, signal.SIG_DFL)
try:
    with running({_SLEEPERS}) as process:
        process.wait()
except KeyboardInterrupt:
    raise SystemExit(130)
finally:
    print("tidied")
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as ours:
        found = pids(tmp_path)
        ours.send_signal(stop)
        printed, _ = ours.communicate(timeout=30)
    assert (ours.returncode, printed) == (128 + stop, "tidied\n")
    assert gone(found)


def test_signals_that_are_handled_or_ignored_are_left_alone() -> None:
    before, received = signal.getsignal(signal.SIGHUP), []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised_stop_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGTERM]
        with hangup_like_sigterm():
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGTERM]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with hangup_like_sigterm():
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGTERM] * 2
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with raised_stop_signals():
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, before)


def test_a_trainer_inside_decides_what_sigterm_does() -> None:
    received: list[int] = []
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with raised_stop_signals():
            before = signal.getsignal(signal.SIGTERM)
            assert callable(before)

            def composed(number: int, frame: FrameType | None) -> None:  # as Lightning's does
                received.append(number)
                before(number, frame)

            signal.signal(signal.SIGTERM, composed)
            with hangup_like_sigterm():
                os.kill(os.getpid(), signal.SIGHUP)
            signal.signal(signal.SIGTERM, before)
            assert received == [signal.SIGTERM]
            with pytest.raises(SystemExit):
                os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, hangup)


def test_threads_run_programs_too(tmp_path: Path) -> None:
    codes: list[int] = []

    def run() -> None:
        with running(["true"]) as process:
            codes.append(process.wait())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [0]


#: A compiler that says its version at once and compiles for a minute.
_SLOW_COMPILER = """#!/bin/sh
case "$*" in *--version*|*-E*) exec g++ "$@";; esac
sleep 60 & echo $$ $! >> "$LGN_TEST_PIDS"; wait
"""


@pytest.mark.parametrize("what", ["kernels", "circuit"])
def test_compilers_end_with_us(tmp_path: Path, what: str) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(_SLOW_COMPILER)
    compiler.chmod(0o755)
    script = {
        "kernels": "from lgn_lightning.cli.main import main; main(['build'])",
        "circuit": "from lgn_lightning.circuit.emit.compiler import compile_source;"
        "compile_source('int lgn;', 'lgn.so', compiler='./compiler')",
    }[what]
    environment = {
        **os.environ,
        **{"CXX": str(compiler), "LGN_CACHE_DIR": str(tmp_path / "cache"), "LGN_TEST_PIDS": str(tmp_path / "pids")},
        "MAX_JOBS": "1",
    }
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment, stderr=pipe) as ours:
        found = pids(tmp_path)
        ours.terminate()
        ours.communicate(timeout=30)
    assert ours.returncode == 128 + signal.SIGTERM
    assert gone(found)
    assert not list(tmp_path.rglob("*.so*"))
