"""Adds a page for every recipe to the site, made from its YAML, so that pages and recipes cannot disagree."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from lgn_lightning.recipe_index import Recipe, list_recipes

_ROLE = re.compile(r":(?:class|meth|func|mod|attr):<code>~?(?:[\w.]+\.)?(\w+)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the recipes into the navigation."""
    if config.nav is None:
        raise RuntimeError("mkdocs.yml has no nav: the recipes have no place in the navigation")
    pages: list[Any] = [{"All recipes": "recipes/index.md"}]
    pages += [{recipe.name: f"recipes/{recipe.name}.md"} for recipe in list_recipes()]
    config.nav.insert(1, {"Recipes": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, which stand in no folder."""
    recipes = list_recipes()
    files.append(File.generated(config, "recipes/index.md", content=index_page(recipes)))
    for recipe in recipes:
        files.append(File.generated(config, f"recipes/{recipe.name}.md", content=recipe_page(recipe)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Shows what a docstring refers to by a Sphinx role under its short name."""
    return _ROLE.sub(r"<code>\1</code>", html)


def index_page(recipes: list[Recipe]) -> str:
    """The table of all recipes."""
    lines = ["# Recipes", "", "| recipe | what | gates | paper, % |", "|---|---|---|---|"]
    for recipe in recipes:
        lines.append(
            f"| [{recipe.name}]({recipe.name}.md) | {recipe.paper.title} | {_gates(recipe)} | {_aim(recipe)} |"
        )
    return "\n".join(lines) + "\n"


def recipe_page(recipe: Recipe) -> str:
    """What the recipe aims at, its command, and the file itself, whose comments explain every key."""
    text = recipe.path.read_text(encoding="utf-8")
    return (
        f"# {recipe.name}\n\n{recipe.paper.title}.\n\n"
        f"Gates: {_gates(recipe)}. Accuracy of the paper, %: {_aim(recipe)}.\n\n"
        f"Source: {recipe.paper.source}\n\n```shell\nlgn fit {recipe.name}\n```\n\n```yaml\n{text}```\n"
    )


def _gates(recipe: Recipe) -> str:
    return f"{recipe.paper.gates:,}" if recipe.paper.gates else "–"


def _aim(recipe: Recipe) -> str:
    return f"{recipe.paper.accuracy:.2f}" if recipe.paper.accuracy else "–"
