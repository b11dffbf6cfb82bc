"""The site builds strictly, with a page for every recipe; and what it says about the original library holds."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe, list_recipes

ROOT = Path(__file__).parents[2]
COMING = ROOT / "docs" / "coming_from_difflogic.md"


def test_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for recipe in list_recipes():
        assert f"lgn fit {recipe.name}" in (tmp_path / "site" / "recipes" / recipe.name / "index.html").read_text()


def test_commands_of_the_original_and_their_recipes_build_the_same_net() -> None:
    rows = re.findall(r"-k ([\d_]+) -l (\d+)` \| `lgn fit ([\w-]+)`", COMING.read_text())
    assert len(rows) == 9
    for width, depth, name in rows:
        net = yaml.safe_load(find_recipe(name).read_text())["model"]["net"]["init_args"]
        assert (net["width"], net["depth"]) == (int(width), int(depth)), name


def test_options_of_the_original_are_keys_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    rows = COMING.read_text().partition("| option | here |")[2].partition("\n\n")[0]
    options = [option.split(" ", 1) for option in re.findall(r"`(--[\w.]+ [\w.-]+)`", rows)]
    assert len(options) == 13
    with pytest.raises(SystemExit) as ended:
        main(["fit", "mnist20x20", *(f"{name}={value}" for name, value in options), "--print_config"])
    assert not ended.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in options:
        node = printed
        for key in name.removeprefix("--").split("."):
            node = node.get("init_args", node) if key not in node else node
            node = node[key]
        assert node == yaml.safe_load(value.replace("_", "") if value[0].isdigit() else value), name


def test_reference_has_every_public_name() -> None:
    written = set(re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(), re.M))
    names = {name.rpartition(".")[2] for name in written}
    for package in ("", ".nn", ".data", ".models", ".circuit", ".callbacks"):
        module = importlib.import_module(f"lgn_lightning{package}")
        missing = [name for name in module.__all__ if name not in names]
        assert not missing, f"add them to docs/reference.md: lgn_lightning{package}"


def test_readme_shows_picture_commands_figures_and_own_data_in_this_order() -> None:
    text = (ROOT / "README.md").read_text()
    parts = (
        "# lgn-lightning",
        "docs/images/concepts/overview.svg",
        "make demo ",
        "make test ",
        "docs/results.md",
        "pip install .",
        "## Bring your own",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("\n") <= 130


def test_accuracies_of_the_readme_are_those_of_the_results() -> None:
    quoted = re.findall(r"\d\d\.\d\d(?= %)", (ROOT / "README.md").read_text().partition("## What to expect")[2])
    quoted += re.findall(r"\d\d\.\d\d(?= %)", (ROOT / "docs" / "methods.md").read_text())
    results = (ROOT / "docs" / "results.md").read_text()
    assert len(quoted) > 3
    assert [figure for figure in quoted if f"| {figure} (" not in results] == []
