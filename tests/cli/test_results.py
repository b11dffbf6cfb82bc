"""Result files and the tables made of them; the table in docs/results.md is the one of the files."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lgn_lightning.base.errors import LgnError
from lgn_lightning.cli.main import main
from lgn_lightning.cli.results import (
    BEGIN,
    END,
    Result,
    SeedResult,
    append_result,
    by_settings,
    cells,
    markdown_table,
    read_results,
    write_table,
)
from lgn_lightning.runs.recipes import PaperResult, list_recipes

TOP = Path(__file__).parents[2]


def run(seed: int, hard: float, **changes: object) -> SeedResult:
    values = {"gates": 48_000, "gates_exported": 21_000 + seed, "steps": 100, "train_seconds": 170.0}
    return SeedResult(seed, hard, hard + 0.01, hardware="a CPU", commit="0123456789", **(values | changes))  # type: ignore[arg-type]


RESULT = Result(
    "net", PaperResult("a net", "a paper", 97.0, 48_000), "2025-01-31", "aaaa", [run(0, 0.96), run(1, 0.98)]
)


def test_a_row_shows_mean_deviation_and_distance_to_the_paper() -> None:
    row = cells(replace(RESULT, runs=[*RESULT.runs, run(2, 0.979)]))
    assert row["paper, %"] == "97.00"
    assert row["ours, %"] == "97.30 (± 1.13, 3 seeds)"  # of 96, 98 and 97.9: the deviation divides by n − 1
    assert row["to paper"] == "+0.30"
    assert row["soft − hard"] == "+1.00"
    assert row["gates"] == "48,000"
    assert row["after passes"] == "21,001"
    assert row["training"] == "3 min"
    assert (row["hardware"], row["commit"]) == ("a CPU", "0123456789")


def test_what_was_shrunk_or_changed_is_marked() -> None:
    changed = replace(RESULT, budget=0.1, overrides=["model.net.tau=8"])
    assert cells(changed)["recipe"] == "net (10 % of the steps) (model.net.tau=8)"
    assert cells(RESULT)["recipe"] == "net"


def test_a_single_seed_has_no_deviation_and_a_baseline_no_gates() -> None:
    baseline = replace(RESULT, runs=[run(0, 0.5, gates=None, gates_exported=None)], paper=PaperResult())
    row = cells(baseline)
    assert row["ours, %"] == "50.00 (1 seed)"
    assert {row[name] for name in ("paper, %", "to paper", "gates", "after passes", "soft − hard")} == {"–"}


def test_files_give_back_what_was_appended_and_a_row_has_all_seeds_of_its_settings(tmp_path: Path) -> None:
    later = replace(RESULT, date="2025-02-01", runs=[run(1, 0.985), run(2, 0.97)])
    shrunk = replace(RESULT, settings="bbbb", budget=0.1)
    for result in (RESULT, shrunk, later):
        append_result(result, tmp_path)
    assert read_results(tmp_path) == [RESULT, shrunk, later]
    row = replace(later, runs=[RESULT.runs[0], *later.runs])
    assert by_settings(read_results(tmp_path)) == [row, shrunk]


def test_a_row_has_all_folds_of_all_seeds() -> None:
    def folds(seed: int) -> Result:
        return replace(RESULT, folds=2, runs=[run(seed, 0.9, fold=fold) for fold in (0, 1)])

    (row,) = by_settings([folds(1), folds(0)])
    assert [(one.seed, one.fold) for one in row.runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "2 folds × 2 seeds" in cells(row)["ours, %"]


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    append_result(RESULT, tmp_path / "results")
    page = tmp_path / "results.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    arguments = ["results", "--results", str(tmp_path / "results"), "--write", str(page)]
    assert main(arguments) == 0
    assert page.read_text() == f"# Title\n\n{BEGIN}\n{markdown_table([RESULT])}\n{END}\n\nafter\n"
    assert not write_table(page, [RESULT]), "nothing changes the second time"
    page.write_text("# no markers")
    with pytest.raises(LgnError, match="no place for the table"):
        write_table(page, [RESULT])


def test_the_command_prints_all_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--results", str(tmp_path)]) == 1
    assert "there are no results in" in capsys.readouterr().err
    append_result(RESULT, tmp_path)
    assert main(["results", "--results", str(tmp_path)]) == 0
    assert "97.00 (± 1.41, 2 seeds)" in capsys.readouterr().out
    (tmp_path / "bad.json").write_text("[{}]")
    assert main(["results", "--results", str(tmp_path)]) == 1
    assert "bad.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"paper": -1}, "paper is -1"),
        ({"paper": {"accuracy": "high"}}, r"paper\.accuracy is 'high'"),
        ({"runs": []}, "runs is empty"),
        ({"runs": [{"seed": 0}]}, r"runs\[0\]\.accuracy_hard is missing"),
        ({"date": "yesterday"}, "yesterday"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"recipe": ["net"]}, "recipe is a list"),
        ({"evil": 1}, "evil is not known"),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [[], ["--json"], ["--write", "page.md"]], ids=str)
def test_a_file_of_anything_else_is_one_error(
    change: dict[str, Any],
    named: str,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text(f"{BEGIN}\n{END}\n")
    file = append_result(RESULT)
    file.write_text(json.dumps([RESULT.to_json() | change]))
    assert main(["results", *options]) == 1
    error = capsys.readouterr().err
    assert re.search(rf"lgn: error: results/net\.json is not a file of `lgn reproduce` \(.*{named}", error)
    assert "Traceback" not in error


def test_brackets_are_text_and_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_result(replace(RESULT, overrides=["model.net.connections=[learned]", "x=[/]"]), tmp_path)
    assert main(["results", "--results", str(tmp_path)]) == 0
    assert "connections=[learned]) (x=[/])" in "".join(capsys.readouterr().out.split("\n"))


def test_the_page_s_table_is_that_of_the_files() -> None:
    text = (TOP / "docs" / "results.md").read_text()
    table = text.partition(BEGIN)[2].partition(END)[0].strip()
    rows = by_settings(read_results(TOP / "results"))
    assert table == markdown_table(rows), "run: lgn results --write docs/results.md"


def test_the_files_quote_the_papers_figures_as_the_recipes_do() -> None:
    recipes = {recipe.name: recipe.paper for recipe in list_recipes()}
    for result in read_results(TOP / "results"):
        assert result.paper.accuracy == recipes[result.recipe].accuracy
