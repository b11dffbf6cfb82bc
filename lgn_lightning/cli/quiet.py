"""What Lightning says and nobody can act on, kept from the output of ``lgn``."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Final

#: Advertisements, devices that are not there, and what the lines around them say already.
_LOGGED: Final = re.compile(
    r"💡 Tip|`weights_only` was not set|[GTH]PU available: False|Trainer already configured with model summary|"
    r"Restoring states from the checkpoint|Loaded model weights from|`Trainer\.fit` stopped: `max_(steps|epochs)="
)
_WARNED: Final = (
    r".*treespec, LeafSpec",  # Lightning's own use of a torch API that is about to change
    r".*does not have many workers",  # loaders here gather batches of tensors, and take no workers
    # Every rank logs the same number, reduced by torchmetrics or counted on weights that are equal.
    r"It is recommended to use `self\.log\('(val|test|gap|gates|gate_entropy|scores|sampler|wires|wire_penalty|"
    r"refreshed)/",
    # Counted in steps of an epoch; what is logged here goes by the steps of the training.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
)


def hush() -> None:
    """Filters Lightning's log and warnings in this process."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)
    for message in _WARNED:
        warnings.filterwarnings("ignore", message=message)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not _LOGGED.match(record.getMessage())
