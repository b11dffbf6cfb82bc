"""What fills up a batch of sequences of different lengths."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: What all bytes of a step behind the end of a sequence are.
PADDING: Final = 255
#: The label of a step that does not count, which torch's losses leave out.
IGNORED: Final = -100


def known_lengths(missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Steps of sequences of numbers, int64 ``[N]``: up to the last one that is not missing in all channels.

    Data files, engines and nets agree in this. Such a step before the last one is a step whose values are missing.

    Args:
        missing: Which steps are missing in all channels, bool ``[N, steps]``.
    """
    known = ~missing
    return np.where(known.any(1), missing.shape[1] - known[:, ::-1].argmax(1), 0).astype(np.int64)
