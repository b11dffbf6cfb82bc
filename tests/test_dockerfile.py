"""The Dockerfile, without Docker: its files are there, and its lines install a package that works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for word, text in instructions():
        if word == "FROM":
            name = text.split()[-1] if " AS " in text else f"of {text}"
            found[name] = []
        else:
            found[name].append((word, text))
    return found


def test_stages_and_images() -> None:
    assert list(stages()) == ["cpu", "cuda", "of cpu"], "the last one is what `docker build .` makes"
    images = [text.split()[0] for word, text in instructions() if word == "FROM"]
    assert all(":" in image or image in stages() for image in images), "releases are named"
    oldest = re.search(
        r">=(\d+)\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    python = re.search(r"python:(\d+)\.(\d+)", images[0])
    assert oldest
    assert python
    assert [*map(int, python.groups())] >= [*map(int, oldest.groups())]


def test_every_line_is_a_command_that_there_is() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for word, text in instructions():
        assert word in {"FROM", "RUN", "ARG", "ENV", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
        if word == "RUN":
            subprocess.run(["bash", "-n", "-c", text], check=True)
        if word == "COPY":
            assert all((ROOT / source).exists() for source in text.split()[:-1])
        if word == "ENTRYPOINT":
            assert yaml.safe_load(text)[0] in scripts
    for extra in re.findall(r"pip install [^\n]*\.\[(\w+)\]", (ROOT / "Dockerfile").read_text()):
        assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.soak
def test_its_lines_install_a_package_that_works(tmp_path: Path) -> None:
    """In an environment of its own, which sees the packages that are installed here and so downloads none of them."""
    copy = tmp_path / "source"
    patterns = (ROOT / ".dockerignore").read_text().split()
    everywhere = shutil.ignore_patterns(*(p.removeprefix("**/") for p in patterns if p.startswith("**/")))
    at_the_top = shutil.ignore_patterns(*patterns)
    shutil.copytree(
        ROOT,
        copy,
        symlinks=True,
        ignore=lambda path, names: (at_the_top if Path(path) == ROOT else everywhere)(path, names),
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (site / "seen.pth").write_text("\n".join(seen))
    programs = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": programs, "HOME": str(tmp_path), "LGN_CACHE_DIR": str(tmp_path / "cache")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    lines = [text for word, text in stages()["cpu"] if word == "RUN" and "apt-get" not in text]
    assert len(lines) == 2
    for line in lines:
        line = line.replace("pip install", "pip install --no-build-isolation")  # setuptools is here, too
        done = subprocess.run(
            ["bash", "-ec", line], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    entry = yaml.safe_load(dict(stages()["cpu"])["ENTRYPOINT"])
    where = "import lgn_lightning; print(lgn_lightning.__file__)"
    found = subprocess.run(
        ["python", "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    fit = [
        *entry,
        *shlex.split("fit digits --model.net.width=300 --trainer.max_steps=30 --trainer.val_check_interval=10"),
    ]
    done = subprocess.run(fit, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Result on the test split" in done.stdout
    assert any((tmp_path / "cache").rglob("*.so")), "the second line built the kernels"


def test_the_citation_is_of_this_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["cff-version"], citation["title"]) == ("1.2.0", project["name"])
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"message", "authors"} <= citation.keys()
    assert all({"type", "title", "authors", "year"} <= paper.keys() for paper in citation["references"])
