"""A layer of majority gates for lgn-lightning, and a callback that watches it."""

from majority_gates.callback import UndecidedInputs
from majority_gates.layer import MajorityLayer
from majority_gates.net import MajorityNet

__all__ = ["MajorityLayer", "MajorityNet", "UndecidedInputs"]
