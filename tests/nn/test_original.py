import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, load_difflogic_state_dict


def checkpoint() -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """What the original saves for Flatten, LogicLayer(6, 8), LogicLayer(8, 4), GroupSum(2)."""
    state = {"1.weights": torch.randn(8, 16), "2.weights": torch.randn(4, 16)}
    return state, [(torch.randint(6, (8,)), torch.randint(6, (8,))), (torch.randint(8, (4,)), torch.randint(8, (4,)))]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), LogicLayer(6, 8), LogicLayer(8, 4), GroupSum(2, 1.5))


def formula(x: Tensor, weights: Tensor, indices: tuple[Tensor, Tensor]) -> Tensor:
    a, b = (x[:, i] for i in indices)
    p = torch.softmax(weights, 1)
    gates = (
        torch.zeros_like(a), a * b, a - a * b, a, b - a * b, b, a + b - 2 * a * b, a + b - a * b,
        1 - (a + b - a * b), 1 - (a + b - 2 * a * b), 1 - b, 1 - b + a * b, 1 - a, 1 - a + a * b, 1 - a * b,
        torch.ones_like(a),
    )  # fmt: skip
    return sum(p[:, i] * gate for i, gate in enumerate(gates))  # type: ignore[return-value]


def test_loaded_net_computes_what_the_original_did() -> None:
    state, indices = checkpoint()
    model = net()
    load_difflogic_state_dict(model, state, indices)
    x = torch.rand(5, 1, 6)
    hidden = formula(x.flatten(1), state["1.weights"], indices[0])
    y = formula(hidden, state["2.weights"], indices[1])
    torch.testing.assert_close(model(x), torch.stack([y[:, :2].sum(1), y[:, 2:].sum(1)], 1) / 1.5)
    (a, b), gates = model[1].indices, model[1].gates()
    assert torch.equal(a.long(), indices[0][0])
    assert torch.equal(b.long(), indices[0][1])
    assert torch.equal(gates.long(), state["1.weights"].argmax(1))
    assert a.dtype == torch.int32


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state, indices: indices.pop(), r"2 .* 2 .*`indices` 1"),
        (lambda state, indices: state.pop("1.weights"), r"2 .* 1 .*`indices` 2"),
        (lambda state, indices: state.update({"2.weights": torch.randn(5, 16)}), r"layer 2 is 8 → 4.*\[5, 16\]"),
        (lambda state, indices: indices.__setitem__(1, (torch.zeros(3), torch.zeros(4))), r"indices \[3\], \[4\]"),
        (lambda state, indices: indices[1][1].__setitem__(0, 8), r"layer 2 .* 8 inputs"),
        (lambda state, indices: indices[0][0].__setitem__(0, -1), r"layer 1 .* 6 inputs"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change: object, match: str) -> None:
    state, indices = checkpoint()
    change(state, indices)  # type: ignore[operator]
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        load_difflogic_state_dict(model, state, indices)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
