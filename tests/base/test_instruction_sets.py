"""Which instruction set the kernels are compiled for."""

import platform
from pathlib import Path

import pytest

from lgn_lightning.base import instruction_sets
from lgn_lightning.base.instruction_sets import FLAGS, all_sets, best_set

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no vector sets to choose from")
AVX2 = ("__AVX2__", "__FMA__")
AVX512 = ("__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__")


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes the compiler tell of a processor with these macros."""

    def pretend(*macros: str) -> None:
        lines = "\n".join(f"echo '#define {name} 1'" for name in macros)
        compiler = tmp_path / f"cxx-{len(macros)}"
        compiler.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo stand-in && exit\n{lines}\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))

    monkeypatch.delenv("LGN_CPU_ISA", raising=False)
    return pretend


def test_best_set_is_what_the_processor_has(processor) -> None:  # type: ignore[no-untyped-def]
    processor(*AVX2, *AVX512)
    assert best_set() == ("avx512",)
    processor(*AVX2, *AVX512[:3])  # a processor of 2017 without one of the four
    assert best_set() == ("avx2",)
    processor()
    assert best_set() == ()


def test_wish_for_a_lesser_set_is_met(processor, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    processor(*AVX2, *AVX512)
    for wish, expected in (("avx2", ("avx2",)), ("baseline", ()), ("avx512", ("avx512",)), ("nonsense", ("avx512",))):
        monkeypatch.setenv("LGN_CPU_ISA", wish)
        assert best_set() == expected, wish


def test_linux_and_compiler_agree_on_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        pytest.skip("no /proc/cpuinfo")
    monkeypatch.delenv("LGN_CPU_ISA", raising=False)
    flags = set(next(line for line in info.read_text().splitlines() if line.startswith("flags")).split())
    has = [name for name in all_sets() if {flag[2:] for flag in FLAGS[name] if flag.startswith("-mavx")} <= flags]
    assert best_set() == tuple(has[-1:])
    assert instruction_sets.all_sets() == tuple(FLAGS)
