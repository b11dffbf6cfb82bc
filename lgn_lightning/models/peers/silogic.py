"""silogic: dense layers and trees with chosen wires; gates of two inputs and lookup tables by several formulas."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lgn_lightning.models.layer_list import LayerList
from lgn_lightning.models.peers import parts
from lgn_lightning.models.peers.parts import Assembly, Shape

_ENDS = (
    "_conn.",
    "node.",
    "leaf_",
    "conn",
    "gate_logits.",
    "tree_nodes.",
    "dec",
    "dec_",
    "dec.",
    "dec_lin.",
    "dec_bn.",
)
#: The smallest float32 above 0: a sum of exactly 0 is a one in linear and polynomial nodes.
_BARELY = torch.finfo(torch.float32).tiny


def import_state_dict(state: Mapping[str, Tensor], shape: Shape) -> LayerList:
    """The net of a ``LogicNet`` or ``LogicConvNet`` with the head ``groupsum``, on bits.

    A net of convolutions has kernels of 3, paddings of half of that and poolings of 2 unless ``shape`` says otherwise.

    Raises:
        ValueError: If there are no layers of gates, a layer has no counterpart here, or sizes do not fit.
    """
    if any(name.rpartition(".")[2] == "thresholds" for name in state):
        raise ValueError("a learned thermometer of real inputs is not imported: give the state dict of what follows it")
    net = Assembly(shape)
    for name, tensors in parts.modules_of(state, _ENDS).items():
        if any(key.startswith("dec") for key in tensors):
            raise ValueError(f"{name} is a learned decoder, whose weighted sums are no gates: train with groupsum")
        if "leaf_idx" in tensors or "leaf_cand" in tensors:
            _add_tree(net, tensors)
        else:
            _add_dense(net, name, tensors)
    return net.net()


def _add_dense(net: Assembly, name: str, tensors: Mapping[str, Tensor]) -> None:
    # Their first input is the least significant of a table, ours the most significant.
    weights, parametrization, reverse = _node(name, tensors)
    logits, candidates = tensors.get("_conn.conn"), tensors.get("_conn.cand")
    if "_conn.idx" in tensors:
        wires = tensors["_conn.idx"].t()
        net.dense(wires.flip(0) if reverse else wires, weights, parametrization)
        return
    if logits is None:
        raise ValueError(f"{name}: a connectome that sums and compares has no gates here; topk, fixed and dense have")
    if candidates is None:  # of all inputs
        candidates = torch.arange(logits.shape[2]).expand_as(logits)
    candidates, logits = (part.transpose(0, 1) for part in (candidates, logits))
    if reverse:
        candidates, logits = candidates.flip(0), logits.flip(0)
    net.learned(candidates, logits, weights, parametrization)


def _node(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, str, bool]:
    """Weights, parametrization, and whether the inputs are counted the other way round."""
    if "node.gate_logits" in tensors:
        return tensors["node.gate_logits"], "softmax", False
    if "node.logits" in tensors:
        return tensors["node.logits"], "sigmoid", True
    theta = tensors["node.theta"]
    arity = next(tensors[key].shape[1] for key in ("_conn.idx", "_conn.cand", "_conn.conn") if key in tensors)
    if theta.shape[1] == 2**arity and "node.mono_mask" not in tensors:
        return theta, "warp", True
    bits = torch.arange(2**arity)[:, None] >> torch.arange(arity) & 1  # entries, input 0 the least significant
    masks = tensors.get("node.mono_mask")
    if masks is None:  # a bias and a weight each
        masks = torch.cat([torch.zeros(1, arity), torch.eye(arity)])
    monomials = ((bits[:, None] >= masks[None]).all(2)).float()  # [entries, monomials]
    # In the order that their sums have, so that a sum of 0 is one here as well.
    sums = (monomials[None] * theta[:, None]).sum(2)
    return torch.where(sums == 0, _BARELY, sums), "sigmoid", True


def _add_tree(net: Assembly, tensors: Mapping[str, Tensor]) -> None:
    kernel = net.shape.of("kernels", net.convolutions, 3)
    if "leaf_idx" in tensors:
        flat = tensors["leaf_idx"]
    else:
        chosen = tensors["conn"].argmax(2, keepdim=True)
        flat = tensors["leaf_cand"].gather(2, chosen).squeeze(2)
    leaves = torch.stack([flat // kernel**2, flat % kernel**2 // kernel, flat % kernel])
    trees, count = flat.shape
    kinds = {name.split(".", 1)[1].split(".", 1)[-1] for name in tensors if name.startswith("tree_nodes.")}
    if not kinds:
        levels = [tensors[f"gate_logits.{level}"] for level in range(len(tensors)) if f"gate_logits.{level}" in tensors]
        net.tree(leaves, torch.cat(levels, 1), "softmax", (kernel, kernel // 2, 2))
        return
    name = next((name for name in ("logits", "theta") if name in kinds), None)
    if name is None or "mono_mask" in kinds:
        raise ValueError("trees of gate16, walsh, multilinear and hybrid nodes are imported, and none of others")
    levels = [tensors[key] for key in sorted(key for key in tensors if key.endswith(f".{name}"))]
    arity = round(count ** (1 / len(levels)))
    if levels[0].shape[1] != 2**arity:
        raise ValueError("trees of gate16, walsh, multilinear and hybrid nodes are imported, and none of others")
    weights = torch.cat([level.view(trees, -1, 2**arity) for level in levels], 1)
    turned = [int(f"{entry:0{arity}b}"[::-1], 2) for entry in range(2**arity)]  # their first input is the lowest digit
    parametrization = "sigmoid" if name == "logits" else "warp"
    net.tree(leaves, weights[..., turned], parametrization, (kernel, kernel // 2, 2), arity)
