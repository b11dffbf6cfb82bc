"""What fills up a batch of sequences of different lengths."""

from typing import Final

#: What all bytes of a step behind the end of a sequence are.
PADDING: Final = 255
#: The label of a step that does not count, which torch's losses leave out.
IGNORED: Final = -100
