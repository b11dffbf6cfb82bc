"""The examples of the original library's README, with nothing changed but the import."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import lgn_lightning as difflogic
from lgn_lightning import GroupSum, LogicLayer

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


def small_model() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        LogicLayer(784, 400),
        LogicLayer(400, 400, connections="unique"),
        GroupSum(k=10, tau=30),
    )


def test_model_definition() -> None:
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        LogicLayer(784, 16_000),
        LogicLayer(16_000, 16_000),
        LogicLayer(16_000, 16_000),
        LogicLayer(16_000, 16_000),
        LogicLayer(16_000, 16_000),
        GroupSum(k=10, tau=30)
    )  # fmt: skip
    x = torch.rand(4, 1, 28, 28)
    output = model(x)
    assert output.shape == (4, 10)
    # "the range of outputs is [0, n / k / tau]"
    assert output.min() > 0
    assert output.max() < 16_000 / 10 / 30


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.cuda),
    ],
)
@pytest.mark.parametrize("connections", ["random", "unique"])
def test_all_arguments(device: str, connections: str) -> None:
    layer = LogicLayer(
        in_dim=784,             # number of inputs
        out_dim=16_000,         # number of outputs
        device=device,          # the device (cuda / cpu)
        implementation='python',  # the implementation to be used (native cuda / vanilla pytorch)
        connections=connections,   # the method for the random initialization of the connections
        grad_factor=1.1,        # for deep models (>6 layers), the grad_factor should be increased (e.g., 2)
    )  # fmt: skip
    assert layer.weights.device.type == layer.indices[0].device.type == device
    assert layer(torch.rand(2, 784, device=device)).shape == (2, 16_000)


@pytest.mark.cuda
def test_cuda_implementation() -> None:
    layer = LogicLayer(
        in_dim=784, out_dim=16_000, device="cuda", implementation="cuda", connections="random", grad_factor=1.1
    )
    assert layer(torch.rand(2, 784, device="cuda")).device.type == "cuda"


def test_training_reduces_the_loss() -> None:
    model = small_model()
    x, y = torch.rand(64, 1, 28, 28).round(), torch.randint(10, (64,))
    loss_fn = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    model.train()
    for _ in range(30):
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("bit_count", [8, 16, 32, 64])
def test_pack_bits_tensor(bit_count: int) -> None:
    model = small_model().eval()
    data = torch.rand(100, 784) > 0.5
    data_bits = difflogic.PackBitsTensor(data, bit_count=bit_count)
    assert data_bits.t.shape == (-(-100 // bit_count), 784)
    output = model(data_bits)
    hard = model(data.float())
    assert torch.equal(output.float() / 30, hard)
    assert torch.equal(output.argmax(-1), hard.argmax(-1))
    # "the range of outputs": a value of 0 or 1 each
    assert 0 <= output.min() <= output.max() <= 400 / 10


def test_pack_bits_tensor_needs_eval_mode() -> None:
    with pytest.raises(TypeError, match="eval"):
        small_model()(difflogic.PackBitsTensor(torch.rand(100, 784) > 0.5))


@needs_gcc
def test_compiled_logic_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = small_model().eval()
    data = torch.rand(100, 784)

    compiled_model = difflogic.CompiledLogicNet(
        model=model,            # the trained model (should be a `torch.nn.Sequential` with `LogicLayer`s)
        num_bits=64,            # the number of bits of the datatype used for inference
        cpu_compiler='gcc',     # the compiler to use for the c code (alternative: clang)
        verbose=True
    )  # fmt: skip
    compiled_model.compile(
        save_lib_path='my_model_binary.so',  # the (optional) location for storing the binary
        verbose=True
    )  # fmt: skip

    # to apply the model, we need a 2d numpy array of dtype bool, e.g., via  `data = data.bool().numpy()`
    data = data.round().bool().numpy()
    output = compiled_model(data)
    expected = (model(torch.from_numpy(data).float()) * 30).round().int()
    assert torch.equal(output.int(), expected)

    loaded = difflogic.CompiledLogicNet.load("my_model_binary.so", num_classes=10, num_bits=64)
    assert torch.equal(loaded(data).int(), expected)


@needs_gcc
@pytest.mark.parametrize("num_bits", [8, 16, 32])
def test_compiled_logic_net_of_other_words(num_bits: int) -> None:
    model = small_model().eval()
    compiled_model = difflogic.CompiledLogicNet(model=model, num_bits=num_bits)
    compiled_model.compile(opt_level=0)
    data = torch.rand(37, 784) > 0.5  # not a multiple of the word
    expected = (model(data.float()) * 30).round().int()
    assert torch.equal(compiled_model(data.numpy()).int(), expected)


@needs_gcc
def test_exported_c_code_has_the_originals_entry_point(tmp_path: Path) -> None:
    model = small_model().eval()
    code = difflogic.CompiledLogicNet(model=model, num_bits=64).get_c_code()
    source, library = tmp_path / "net.c", tmp_path / "net.so"
    source.write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O0", "-o", library, source], check=True)
    data = torch.rand(128, 784) > 0.5
    out = torch.full((128, 10), -1, dtype=torch.int32)
    net = ctypes.CDLL(str(library))
    net.apply_logic_gate_net(
        ctypes.c_void_p(data.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_size_t(128 // 64)
    )
    assert torch.equal(out, (model(data.float()) * 30).round().int())
