"""Settings in YAML: plain values of bounded size, or one error."""

import shlex
from pathlib import Path

import pytest

from lgn_lightning.base.errors import CheckpointError, RecipeError
from lgn_lightning.base.settings_text import option, parse_settings, parse_yaml, read_settings

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


def test_plain_values_and_shared_ones() -> None:
    text = "a: &a {x: 1, y: [1e-3, true, null, 'z']}\nb: *a\nc: {<<: *a, x: 2}\nrun: 2020-01-01"
    shared = {"x": 1, "y": ["1e-3", True, None, "z"]}
    assert parse_settings(text, "x") == {"a": shared, "b": shared, "c": {**shared, "x": 2}, "run": "2020-01-01"}


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        BOMB + "x: {<<: [" + "{a: *h}," * 9 + "]}",
        "a: &a [*a]",
        "a: &a {b: *a}",
        "x: &x {<<: *x}",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "a: !!binary aGVsbG8=",
        "a: !!set {a, b}",
        "a: !foo 3",
        "a: !!int x",
        "a: " + "[" * 3000,
        "a: " + "[" * 400 + "]" * 400,
        "a: " + "9" * 5000,
        'a: "\\ud800"',
        "a: *missing",
        "{[1, 2]: 3}",
        "a: 1\n---\na: 2",
        "[]",
        "3",
        "",
        "\x00",
    ],
)
def test_everything_else_is_one_error_at_once(text: str) -> None:
    with pytest.raises(RecipeError, match=r"net\.yaml"):
        parse_settings(text, "net.yaml")
    with pytest.raises(CheckpointError):
        parse_settings(text, "net.ckpt", CheckpointError)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(RecipeError, match=r"x\.yaml is no text"):
        read_settings(tmp_path / "x.yaml")


@pytest.mark.parametrize("value", [["id"], ["yes", "1", "a, b", "it's", "ä: ü"], {"zip code": "category"}, ["x " * 90]])
def test_an_option_of_the_command_line_is_read_back(value: object) -> None:
    key, text = shlex.split(option("data.drop", value))
    assert (key, parse_yaml(text)) == ("--data.drop", value)
