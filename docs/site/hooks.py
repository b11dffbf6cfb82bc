"""Adds pages to the site that are made from other files, so that they cannot disagree: recipes, notebooks, root pages.

Links in docs/ are those that work on a code host; the site gets its own for what it shows elsewhere.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from lgn_lightning.runs.recipes import Recipe, list_recipes

ROOT = Path(__file__).parents[2]
#: Pages in the root of the repository.
_ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:class|meth|func|mod|attr):<code>~?(?:[\w.]+\.)?(\w+)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the recipes into the navigation, where mkdocs.yml has their place."""
    if config.nav is None:
        raise RuntimeError("mkdocs.yml has no nav: the recipes have no place in the navigation")
    pages: list[Any] = [{"All recipes": "recipes/index.md"}]
    pages += [{recipe.name: f"recipes/{recipe.name}.md"} for recipe in list_recipes()]
    place = next(index for index, entry in enumerate(config.nav) if "Recipes" in entry)
    config.nav[place] = {"Recipes": pages}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made from other files."""
    recipes = list_recipes()
    files.append(File.generated(config, "recipes/index.md", content=index_page(recipes)))
    for recipe in recipes:
        files.append(File.generated(config, f"recipes/{recipe.name}.md", content=recipe_page(recipe)))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook_page(path)))
    for source, target in _ROOT_PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Points links to where the site has what they name; those to source files become plain text."""
    where = page.file.src_uri
    folder = Path() if where in _ROOT_PAGES.values() else Path("docs", where).parent

    def site_link(match: re.Match[str]) -> str:
        label, path, anchor = match[1], match[2], match[3] or ""
        place = _place(Path(os.path.normpath(folder / path)))
        return f"[{label}]({os.path.relpath(place, Path(where).parent)}{anchor})" if place else label

    return _LINK.sub(site_link, markdown)


def _place(target: Path) -> str | None:
    """The page of the site that shows a file of the repository; None if there is none."""
    if target.parts[0] == "docs":
        shown = target.with_suffix(".md") if target.suffix == ".ipynb" else target
        return Path(*shown.parts[1:]).as_posix()
    if target.parts[0] == "recipes":
        return f"recipes/{target.stem}.md" if target.suffix == ".yaml" else "recipes/index.md"
    return _ROOT_PAGES.get(str(target))


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


def notebook_page(path: Path) -> str:
    """Text, code and outputs of a notebook."""
    title, *cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    download = f'<a href="../{path.name}">{path.name}</a>'
    parts = ["".join(title["source"]), f"To run it: {download}, with `jupyter lab` or an editor."]
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else _code(text))
        parts += map(_output, cell.get("outputs", ()))
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    """A cell as a block in its language."""
    magic, _, rest = text.partition("\n")
    if magic == "%%bash":
        return f"```bash\n{rest}\n```"
    if magic.startswith("%%writefile "):
        name = magic.split()[1]
        return f'```{Path(name).suffix[1:]} title="{name}"\n{rest}\n```'
    return f"```python\n{text}\n```"


def _output(output: dict[str, Any]) -> str:
    """What a cell printed or drew."""
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    if "image/png" in output["data"]:
        return f'<img alt="the figure" src="data:image/png;base64,{output["data"]["image/png"].strip()}">'
    return f"```text\n{''.join(output['data']['text/plain'])}\n```"


def _gates(recipe: Recipe) -> str:
    return f"{recipe.paper.gates:,}" if recipe.paper.gates else "–"


def _aim(recipe: Recipe) -> str:
    return f"{recipe.paper.accuracy:.2f}" if recipe.paper.accuracy else "–"
