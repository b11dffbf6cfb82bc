"""Netlists: pure data that knows nothing of what is done with it."""
