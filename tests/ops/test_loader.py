"""The loader's promises when things go wrong: no compiler, no home, many processes, a killed build."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lgn_lightning.base import native_build
from lgn_lightning.base.instruction_sets import all_sets, best_set
from lgn_lightning.ops import cpu_build, loader

STAND_IN = textwrap.dedent(
    """
    #!/bin/sh
    # A compiler that writes a note instead of code: the loader's faults need no C++.
    [ "$1" = --version ] && { echo "stand-in 1.0"; exit 0; }
    [ "$1" = -march=native ] && { echo "#define __AVX2__ 1"; echo "#define __FMA__ 1"; exit 0; }
    echo run >> "$LOG"
    [ -n "$SLOW" ] && sleep "$SLOW"
    [ -n "$FAIL" ] && { echo "x.cpp:1: error: deliberate"; exit 1; }
    while [ $# -gt 0 ]; do [ "$1" = -o ] && { echo built > "$2"; exit 0; }; shift; done
    """
).lstrip()
CODE = "from lgn_lightning.ops import loader; print(loader.build())"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose compiler is a stand-in and whose cache is empty; gives the log of its runs."""
    compiler = tmp_path / "cxx"
    compiler.write_text(STAND_IN)
    compiler.chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    for name, value in (("CXX", compiler), ("LOG", log), ("LGN_CACHE_DIR", tmp_path / "cache")):
        monkeypatch.setenv(name, str(value))
    for name in ("SLOW", "FAIL", "LGN_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(loader._State, "libraries", {})  # what other tests of this process have loaded
    return log


def compiler_runs(log: Path) -> int:
    return len(log.read_text().splitlines())


def expected_runs() -> int:
    return len(cpu_build.make_plan(best_set()).units) + 1  # and the link


def test_build_happens_once_and_leaves_only_library_and_digest(stand_in: Path, tmp_path: Path) -> None:
    library = loader.build()
    assert library.read_text() == "built\n"
    assert compiler_runs(stand_in) == expected_runs()
    assert loader.build() == library
    assert compiler_runs(stand_in) == expected_runs()
    assert {path.name.removesuffix(".lock") for path in (tmp_path / "cache").iterdir()} == {library.parent.name}
    assert {path.name for path in library.parent.iterdir()} == {library.name, "lgn_cpu.sha256"}


def test_key_depends_on_the_compiler(stand_in: Path) -> None:
    key = cpu_build.make_plan(best_set()).key
    compiler = Path(os.environ["CXX"])
    compiler.write_text(STAND_IN.replace("1.0", "2.0"))
    native_build._compiler_version.cache_clear()
    assert cpu_build.make_plan(best_set()).key != key


def test_eight_processes_make_one_build(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0.3")
    context = multiprocessing.get_context("fork")  # torch is imported already: they start at the same moment
    queue: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=lambda: queue.put(str(loader.build()))) for _ in range(8)]
    for process in processes:
        process.start()
    assert len({queue.get(timeout=120) for _ in processes}) == 1
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert compiler_runs(stand_in) == expected_runs()


def test_killed_build_does_not_break_the_next(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "600")
    process = subprocess.Popen([sys.executable, "-c", CODE], start_new_session=True, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "building the CPU kernels" in process.stderr.readline()
    while not compiler_runs(stand_in):
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.wait()
    process.stderr.close()
    assert list((tmp_path / "cache").glob("*.build-*"))
    monkeypatch.delenv("SLOW")
    library = loader.build()
    assert library.read_text() == "built\n"
    assert not list((tmp_path / "cache").glob("*.build-*"))


def test_failed_build_names_the_compilers_error(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(loader.BackendError, match=r"(?s)error: deliberate.*set CXX to choose"):
        loader.build()


def test_read_only_cache_falls_back_to_a_temporary_folder(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    blocker = tmp_path / "file"
    blocker.touch()  # a folder below a file cannot be made, not even by root
    monkeypatch.setenv("LGN_CACHE_DIR", str(blocker / "cache"))
    monkeypatch.setattr(native_build, "_temporary_root", lambda: tmp_path / "fallback")
    library = loader.build()
    assert library.is_relative_to(tmp_path / "fallback")
    assert "cannot write to the cache folder" in capfd.readouterr().err
    assert loader.build() == library


def test_temporary_folder_of_somebody_else_is_not_trusted(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "file").touch()
    monkeypatch.setenv("LGN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(native_build, "_temporary_root", lambda: shared)
    with pytest.raises(loader.BackendError, match="can be written by others"):
        loader.build()


@pytest.mark.parametrize("cache", ["LGN_CACHE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["cache", "build", "library"])
def test_what_others_can_write_is_not_loaded(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, depth: int
) -> None:
    monkeypatch.delenv("LGN_CACHE_DIR")
    monkeypatch.setenv(cache, str(tmp_path / "cache"))
    library = loader.build()
    path = (library.parents[1], library.parent, library)[depth]
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(loader.BackendError, match=rf"can be written by others.*chmod -R go-w {path}.*LGN_CACHE_DIR"):
        loader.build()
    assert "can be written by others" in loader.report()["native cpu"]
    path.chmod(path.stat().st_mode & ~0o020)
    assert loader.build() == library
    assert compiler_runs(stand_in) == expected_runs()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["cache", "build", "library"])
def test_what_belongs_to_somebody_else_is_not_loaded(stand_in: Path, depth: int) -> None:
    library = loader.build()
    path = (library.parents[1], library.parent, library)[depth]
    os.chown(path, 4242, -1)
    with pytest.raises(loader.BackendError, match=rf"belongs to another user.*chown -R 0 {path}"):
        loader.build()


def test_an_empty_cache_that_others_can_write_is_not_built_in(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(loader.BackendError, match=r"can be written by others.*chmod"):
        loader.build()
    assert compiler_runs(stand_in) == 0


def test_built_for_nobody_else_whatever_the_umask(stand_in: Path) -> None:
    old = os.umask(0)
    try:
        library = loader.build()
        assert loader.build() == library
    finally:
        os.umask(old)
    assert not any(path.stat().st_mode & 0o022 for path in (library.parents[1], library.parent, library))


@pytest.mark.parametrize("damage", [b"", b"buil", b"build\n", b"built\n\0"], ids=["empty", "cut", "flipped", "longer"])
def test_a_damaged_library_is_built_anew(stand_in: Path, damage: bytes) -> None:
    library = loader.build()
    library.write_bytes(damage)
    assert loader.build() == library
    assert library.read_text() == "built\n"
    assert compiler_runs(stand_in) == 2 * expected_runs()


def test_a_library_without_its_digest_is_built_anew(stand_in: Path) -> None:
    library = loader.build()
    library.with_suffix(".sha256").write_bytes(b"\xff")
    assert loader.build() == library
    library.with_suffix(".sha256").unlink()
    assert loader.build() == library
    assert compiler_runs(stand_in) == 3 * expected_runs()


def test_ninja_beside_the_interpreter_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Path) -> None:
    (tmp_path / "bin").mkdir()
    ninja = tmp_path / "bin" / "ninja"
    shutil.copy(native_build.find_ninja(), ninja)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert native_build.find_ninja() == str(ninja)


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


USE = """
    import torch
    from lgn_lightning import ops
    for _ in range(2):
        print(ops.softmax_table(torch.zeros(1, 16)).tolist())
"""


def test_without_a_compiler_torch_runs_with_one_warning(tmp_path: Path) -> None:
    done = run(USE, CXX="/nowhere/cxx", LGN_BACKEND="auto", LGN_CACHE_DIR=str(tmp_path))
    assert done.stdout == "[[0.5, 0.5, 0.5, 0.5]]\n" * 2
    assert done.stderr.count("running in plain torch") == 1
    assert "CXX=/nowhere/cxx is not a program; unset CXX" in done.stderr


def test_backend_asked_for_by_name_is_an_error_with_cause_and_cure(tmp_path: Path) -> None:
    done = run(USE, CXX="/nowhere/cxx", LGN_BACKEND="cpu", LGN_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "BackendError: CXX=/nowhere/cxx is not a program; unset CXX" in done.stderr


def test_backend_torch_builds_nothing(tmp_path: Path) -> None:
    done = run(USE, LGN_BACKEND="torch", LGN_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_importing_builds_nothing(tmp_path: Path) -> None:
    done = run("import lgn_lightning.nn, lgn_lightning.ops", CXX="/nowhere/cxx", LGN_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGN_BACKEND", "gpu")
    with pytest.raises(loader.BackendError, match="LGN_BACKEND=gpu is not one of auto, torch, cpu, cuda"):
        loader.backend()


def test_report_explains(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader._State, "libraries", {})
    facts = loader.report()
    assert facts["native cpu"].startswith("not built yet")
    assert facts["compiler"] == os.environ["CXX"]
    monkeypatch.setenv("CXX", "/nowhere/cxx")
    assert "CXX=/nowhere/cxx is not a program" in loader.report()["native cpu"]


def test_the_plain_build_is_for_any_processor_and_not_in_a_build_for_this_one() -> None:
    def has_plain_build(plan: native_build.BuildPlan) -> bool:
        return any("-DLGN_ISA=baseline" in unit.flags for unit in plan.units)

    assert has_plain_build(cpu_build.make_plan(()))
    assert has_plain_build(cpu_build.every_set_plan())
    if len(all_sets()) > 1:
        assert not has_plain_build(cpu_build.make_plan(all_sets()[-1:]))


def test_library_with_all_sets_is_preferred_and_serves_every_machine(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = loader.build(every_set=True)
    runs = compiler_runs(stand_in)
    assert loader.build() == shared
    monkeypatch.setenv("LGN_CPU_ISA", "baseline")
    assert loader.build() == shared
    assert compiler_runs(stand_in) == runs


def test_library_that_a_wheel_carries_is_used_without_a_compiler(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = cpu_build.every_set_plan()
    native_build.copy_library(loader.build(every_set=True), plan, tmp_path / "prebuilt")
    monkeypatch.setattr(native_build, "carried_folder", lambda: tmp_path / "prebuilt")
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    carried = tmp_path / "prebuilt" / plan.fingerprint / plan.library
    assert loader.build() == carried
    carried.write_text("damaged")
    with pytest.raises(loader.BackendError, match="CXX"):
        loader.build()


def test_library_of_another_torch_is_not_used(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native_build.copy_library(loader.build(every_set=True), cpu_build.every_set_plan(), tmp_path / "prebuilt")
    monkeypatch.setattr(native_build, "carried_folder", lambda: tmp_path / "prebuilt")
    monkeypatch.setattr(cpu_build.torch, "__version__", "1.0")
    assert not loader.build().is_relative_to(tmp_path / "prebuilt")
