"""Nets that other libraries trained, as nets of this one: one file a library."""
