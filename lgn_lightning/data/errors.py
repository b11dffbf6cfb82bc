"""The one error of this package."""

from __future__ import annotations


class DataError(RuntimeError):
    """A data set is missing, corrupt or does not fit the settings; the message names the path and the fix."""
