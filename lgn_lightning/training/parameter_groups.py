"""Parameters in groups for the optimizer: some of a net's with options of their own, such as another learning rate."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lgn_lightning.base.errors import some


def grouped_parameters(module: nn.Module, net: nn.Module, options: Mapping[str, Mapping[str, Any]]) -> Iterable[Any]:
    """The parameters of a module, as optimizers take them.

    Args:
        module: What trains: the net, and what else has parameters.
        net: Its net, whose names the patterns match.
        options: Options of the optimizer by pattern of names; of several that match a parameter the first counts.

    Raises:
        ValueError: If a pattern has no parameter.
    """
    if not options:
        return module.parameters()
    groups: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in (*options, "")}
    names = dict(net.named_parameters())
    for name, parameter in names.items():
        groups[next((pattern for pattern in options if fnmatchcase(name, pattern)), "")].append(parameter)
    for pattern in options:
        if not groups[pattern]:
            raise ValueError(
                f"parameter_groups: {pattern!r} matches no parameter of the net, or an earlier pattern took them; "
                f"they are {some(names)}"
            )
    of_net = {id(parameter) for parameter in names.values()}
    groups[""] += [parameter for parameter in module.parameters() if id(parameter) not in of_net]
    return [{"params": group, **options.get(pattern, {})} for pattern, group in groups.items() if group]
