"""The one error of this package."""

from __future__ import annotations

from lgn_lightning.errors import LgnError


class DataError(LgnError):
    """A data set is missing, corrupt or does not fit the settings; the message names the path and the fix."""
