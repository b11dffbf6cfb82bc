from __future__ import annotations

import pytest
import torch

from lgn_lightning.base.sizes import check_classes, per_layer
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.nn import LogicLayer, LutLayer


def test_one_value_is_for_all_layers_and_a_list_has_one_each() -> None:
    assert per_layer("padding", 1, [5, 6, 7], "convolutions") == [1, 1, 1]
    assert per_layer("connections", ["learned", "random"], [5, 6], "layers") == ["learned", "random"]
    with pytest.raises(ValueError, match=r"padding=\[0, 1\].* 3 convolutions"):
        per_layer("padding", [0, 1], [5, 6, 7], "convolutions")


def test_the_last_layer_divides_into_the_classes() -> None:
    check_classes(4, 80)
    with pytest.raises(ValueError, match=r"82 .* 4 classes; take 84"):
        check_classes(4, 82)
    with pytest.raises(ValueError, match="num_classes=0"):
        check_classes(0, 80)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("arity", [2, 3])
def test_layers_feed_one_another(arity: int, device: str) -> None:
    layers = dense_layers([9, 20, 30], ["random", "unique"], 4, arity, device=device, sampler="straight_through")
    assert [type(layer) for layer in layers] == [LogicLayer if arity == 2 else LutLayer] * 2
    assert [(layer.in_dim, layer.out_dim, layer.connections) for layer in layers] == [
        (9, 20, "random"),
        (20, 30, "unique"),
    ]
    assert {layer.sampler.name for layer in layers} == {"straight_through"}
    assert {layer.weights.device for layer in layers} == {torch.device(device)}


def test_learned_connections_have_the_candidates() -> None:
    first, second = dense_layers([9, 20, 30], ["learned", "random"], 5)
    assert first.learned is not None
    assert first.learned.candidates.shape == (20, 2, 5)
    assert second.learned is None
