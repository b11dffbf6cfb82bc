"""What is built is what is tracked: wheel and sdist from a clean copy of the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
#: Top-level folders and the packages that they install as.
FOLDERS = {
    "lgn_lightning": "lgn_lightning",
    "callbacks": "lgn_lightning/callbacks",
    "ext": "lgn_lightning/ext",
    "recipes": "lgn_lightning/recipes",
}


def tracked() -> list[PurePosixPath]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # A file that is deleted and not yet committed is still listed.
    return [PurePosixPath(p) for p in listed.split("\0") if p and os.path.lexists(ROOT / p)]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    copy = tmp_path_factory.mktemp("source")
    for path in tracked():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
    out = copy / "dist"
    # The wheel from the sdist, as an installer without a wheel would build it.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def source_files() -> list[PurePosixPath]:
    return [p for p in tracked() if p.parts[0] in FOLDERS and not (ROOT / p).is_symlink()]


def test_wheel_holds_every_file_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}
        metadata = {PurePosixPath(name).name for name in wheel.namelist() if ".dist-info/" in name}
    expected = {str(PurePosixPath(FOLDERS[p.parts[0]]).joinpath(*p.parts[1:])) for p in source_files()}
    assert names == expected
    assert {"LICENSE", "entry_points.txt"} <= metadata


def test_sdist_holds_every_file(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as sdist:
        names = {str(PurePosixPath(*PurePosixPath(m.name).parts[1:])) for m in sdist.getmembers() if m.isfile()}
    missing = {str(p) for p in source_files()} - names
    assert not missing
    assert {"pyproject.toml", "LICENSE", "README.md"} & set(map(str, tracked())) <= names


def test_wheel_works_outside_of_the_repository(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import importlib.resources as r, lgn_lightning as l, lgn_lightning.callbacks as c\n"
        "print(l.__file__, c.__file__, r.files('lgn_lightning.ext'), r.files('lgn_lightning.recipes'), sep='\\n')\n"
        "l.LogicLayer(4, 4)(__import__('torch').rand(2, 4))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(tmp_path / "site" / "lgn_lightning")) for line in done.stdout.splitlines())


def test_the_callbacks_folder_is_not_importable_by_its_own_name() -> None:
    done = subprocess.run([sys.executable, "-c", "import callbacks"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: import lgn_lightning.callbacks" in done.stderr


@pytest.mark.soak
def test_wheel_with_libraries_needs_no_compiler(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for path in tracked():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
    carried = tmp_path / "carried"
    run = {"check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "lgn_lightning", "build", "--all-isa", "--into", carried], cwd=copy, **run)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, copy],
        env={**os.environ, "LGN_CARRIED_LIBRARIES": str(carried)},
        **run,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith(f"-py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}.whl")
    # A fresh environment, which finds torch where this one does.
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], **run)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "of_this_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = (
        "import lgn_lightning, torch\nfrom lgn_lightning.circuit import native\nfrom lgn_lightning.ops import loader\n"
        "print(lgn_lightning.__file__, loader.build(), native.build(), sep='\\n')\nloader.require('cpu')\n"
        "lgn_lightning.LogicLayer(4, 4)(torch.rand(2, 4)).sum().backward()\nnative.library()"
    )
    environment = {"PATH": str(tmp_path), "LGN_CACHE_DIR": str(tmp_path / "cache"), "LGN_BACKEND": "cpu"}
    done = subprocess.run([python, "-I", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(site) for line in done.stdout.splitlines()), done.stdout
    assert not (tmp_path / "cache").exists()
