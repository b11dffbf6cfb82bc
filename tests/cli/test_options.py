"""One name an option; the names of 0.1 still work."""

import argparse
from pathlib import Path

import pytest

from lgn_lightning.cli.options import add_data_root, add_form, key_value


@pytest.mark.parametrize(
    ("given", "form", "root"),
    [
        ([], "auto", None),
        (["--form", "loops", "--data.root", "here"], "loops", Path("here")),
        (["--loops", "--data-root", "here"], "loops", Path("here")),
        (["--no-loops"], "code", None),
    ],
)
def test_options_and_their_old_names(given: list[str], form: str, root: Path | None) -> None:
    parser = argparse.ArgumentParser()
    add_form(parser)
    add_data_root(parser)
    arguments = parser.parse_args(given)
    assert (arguments.form, arguments.data_root) == (form, root)
    assert "--loops" not in parser.format_help()


def test_the_last_value_of_a_key_counts() -> None:
    keys = ["--run_name", "a b", "--other=--run_name", "--run_name=c"]
    assert key_value(keys, "--run_name") == "c"
    assert key_value(keys[:3], "--run_name") == "a b"
    assert key_value(keys, "--run") is None
