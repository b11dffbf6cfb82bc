"""The ops that layers are made of; each runs natively where the extension can be had, else in plain torch.

A file a family. Each begins with its public functions, and holds the oracles (``…_reference``) below their schemas, the
fake kernels and the gradients. In all of them a wrong shape or number is a ValueError, a wrong dtype a TypeError.
"""

from lgn_lightning.ops import (
    bit_tree,
    bits,
    bits_activations,
    choices,
    dense,
    dense_stack,
    straight_through,
    straight_through_steps,
    tree,
    tree_geometry,
)
from lgn_lightning.ops.bit_tree import *
from lgn_lightning.ops.bits import *
from lgn_lightning.ops.bits_activations import *
from lgn_lightning.ops.choices import *
from lgn_lightning.ops.dense import *
from lgn_lightning.ops.dense_stack import *
from lgn_lightning.ops.lut import *
from lgn_lightning.ops.lut import __all__ as _of_lut
from lgn_lightning.ops.straight_through import *
from lgn_lightning.ops.straight_through_steps import *
from lgn_lightning.ops.tree import *
from lgn_lightning.ops.tree_geometry import *

__all__ = [*_of_lut]
__all__ += bit_tree.__all__
__all__ += bits.__all__
__all__ += bits_activations.__all__
__all__ += choices.__all__
__all__ += dense.__all__
__all__ += dense_stack.__all__
__all__ += straight_through.__all__
__all__ += straight_through_steps.__all__
__all__ += tree.__all__
__all__ += tree_geometry.__all__
