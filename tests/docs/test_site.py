"""The site builds strictly, with a page for every recipe; and what it says about the original library holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lgn_lightning.recipe_index import find_recipe, list_recipes

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
