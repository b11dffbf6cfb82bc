from __future__ import annotations

import numpy as np
import pytest
import torch

import lgn_lightning as difflogic
from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d
from lgn_lightning.circuit.emit.compiler import CompilerError


@pytest.fixture
def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(), LogicLayer(50, 120), LogicLayer(120, 120), GroupSum(k=10, tau=30)
    ).eval()


def expected_scores(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (model(x.float()) * 30).round().int()


@pytest.mark.parametrize("num_bits", [8, 16, 32, 64])
def test_readme_example_of_the_original_library(model, num_bits: int, tmp_path, capsys) -> None:
    compiled_model = difflogic.CompiledLogicNet(model=model, num_bits=num_bits, cpu_compiler="gcc", verbose=True)
    compiled_model.compile(save_lib_path=str(tmp_path / "my_model_binary.so"), verbose=True)
    data = torch.rand(133, 50) < 0.5
    expected = expected_scores(model, data)
    output = compiled_model(data.bool().numpy())
    assert output.dtype == torch.int32
    assert torch.equal(output, expected)
    assert torch.equal(compiled_model(data, verbose=True), expected)
    loaded = difflogic.CompiledLogicNet.load(str(tmp_path / "my_model_binary.so"), 10, num_bits)
    assert torch.equal(loaded(data), expected)
    assert "CompiledLogicNet" in capsys.readouterr().out
    with pytest.raises(ValueError, match="compiled for 10 classes"):
        difflogic.CompiledLogicNet.load(tmp_path / "my_model_binary.so", 9, num_bits)
    with pytest.raises(RuntimeError, match="no C source"):
        loaded.get_c_code()


def test_original_entry_point(model, tmp_path) -> None:
    compiled = difflogic.CompiledLogicNet(model, num_bits=8)
    compiled.compile(save_lib_path=tmp_path / "net.so")
    import ctypes

    library = ctypes.CDLL(str(tmp_path / "net.so"))
    x = torch.rand(24, 50) < 0.5
    out = np.zeros((24, 10), np.int32)
    library.apply_logic_gate_net(
        ctypes.c_void_p(x.numpy().ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_size_t(3)
    )
    assert np.array_equal(out, expected_scores(model, x).numpy())


def test_a_library_compiled_again_under_its_name_is_the_new_one(model, tmp_path) -> None:
    x = torch.rand(64, 50) < 0.5
    for seed in (1, 2):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(LogicLayer(50, 100), GroupSum(10, tau=30)).eval()
        compiled = difflogic.CompiledLogicNet(net, engine="c")
        compiled.compile(save_lib_path=tmp_path / "net.so")
        assert torch.equal(compiled(x), expected_scores(net, x))


@pytest.mark.parametrize("engine", ["c", "auto", "interpreter", "numpy"])
def test_awkward_and_wrong_arrays(model, engine: str) -> None:
    compiled = difflogic.CompiledLogicNet(model, engine=engine)
    with pytest.raises(RuntimeError, match="call compile"):
        compiled(np.zeros((1, 50), bool))
    compiled.compile()
    data = torch.rand(50, 133) < 0.5
    assert torch.equal(compiled(data.T), expected_scores(model, data.T))
    assert torch.equal(compiled(data.numpy().T[::2]), expected_scores(model, data.T[::2]))
    assert compiled(torch.zeros(0, 50, dtype=torch.bool)).shape == (0, 10)
    for wrong in (torch.zeros(3, 49, dtype=torch.bool), torch.zeros(3, 50), np.zeros((3, 50), np.uint8)):
        with pytest.raises(ValueError, match=r"bool \[N, 50\]"):
            compiled(wrong)


def test_bad_arguments(model) -> None:
    with pytest.raises(ValueError, match="num_bits"):
        difflogic.CompiledLogicNet(model, num_bits=7)
    with pytest.raises(ValueError, match="device"):
        difflogic.CompiledLogicNet(model, device="cuda")
    with pytest.raises(CompilerError, match="tcc"):
        difflogic.CompiledLogicNet(model, cpu_compiler="tcc-not-here", engine="c").compile()
    with pytest.raises(ValueError, match="engine must be one of c, auto"):
        difflogic.CompiledLogicNet(model, engine="warp")


@pytest.mark.parametrize("engine", ["auto", "c"])
def test_a_net_that_begins_with_a_convolution(engine: str) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        LogicTreeConv2d(1, 4, 3, 2, init="gaussian"), OrPool2d(2), torch.nn.Flatten(), LogicLayer(36, 40), GroupSum(4)
    ).eval()
    with pytest.raises(ValueError, match="input_shape"):
        difflogic.CompiledLogicNet(net)
    compiled = difflogic.CompiledLogicNet(net, engine=engine, input_shape=(1, 9, 9))
    compiled.compile()
    x = torch.rand(70, 1, 9, 9) < 0.5
    with torch.no_grad():
        assert torch.equal(compiled(x), net(x.float()).int())
