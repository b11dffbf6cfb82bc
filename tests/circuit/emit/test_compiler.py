from __future__ import annotations

import pytest

from lgn_lightning.circuit.emit.compiler import CompilerError, compile_source, find_compiler


def test_no_compiler_is_one_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompilerError, match="install gcc or clang"):
        find_compiler()
    with pytest.raises(CompilerError, match="no C compiler: tcc"):
        compile_source("", tmp_path / "x.so", compiler="tcc")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_compilation_leaves_nothing(tmp_path) -> None:
    with pytest.raises(CompilerError, match="error"):
        compile_source("int x = ;", tmp_path / "x.so")
    assert list(tmp_path.iterdir()) == []
