"""The command line: its table of commands, its exit codes, and output that nobody reads."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lgn_lightning
from lgn_lightning.cli.main import COMMANDS, main
from tests.cli.conftest import error_of
from tests.killed_runs import run_lgn


@pytest.mark.parametrize("command", ["ls", "ls --json", "--help", "fit --help", "ls --help", "fit digits --help"])
def test_closed_pipe_is_silent(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        lgn = [sys.executable, "-m", "lgn_lightning", *command.split()]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(lgn, stdout=write, stderr=subprocess.PIPE, check=False, env=buffered)
    finally:
        os.close(write)
    assert done.stderr == b""
    # argparse takes a long help that cannot be printed for printed, from Python 3.11 on.
    assert done.returncode in ((0, 141) if command == "fit digits --help" else (141,))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_stop_leave_nothing_half_written(stop: signal.Signals, folder: Path) -> None:
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        write = Path.write_bytes

        def stopped(path: Path, data: bytes) -> int:
            os.kill(os.getpid(), stop)
            return write(path, data)

        Path.write_bytes = stopped  # type: ignore[method-assign]

    assert run_lgn(["export", "net.lgn", "--out", "made"], prepare) == 128 + stop
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", "net.lgn", "plain.lgn"]


def test_broken_pipe_of_anything_else_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("lgn_lightning.cli.cp.copy_recipe", lambda *_: fail(None))
    assert main(["cp", "digits"]) == 1
    assert "Broken pipe" in error_of(capsys)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_the_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed and command.help in printed for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: lgn {name}" in capsys.readouterr().out


def test_the_help_of_reproduce_stands_after_a_recipe_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "digits", "--help"])
    assert "--seeds" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exprot"]) == 2
    assert "did you mean export?" in error_of(capsys)
    assert main(["foo"]) == 2
    printed = error_of(capsys)
    assert all(name in printed for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lgn-lightning {lgn_lightning.__version__}\n"


def test_the_help_imports_no_package_that_is_slow() -> None:
    code = "import sys; from lgn_lightning.cli.main import main; main(['--help']); main(['ls'])"
    code += "; assert not sys.modules.keys() & {'torch', 'numpy', 'lightning'}, 'slow'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
