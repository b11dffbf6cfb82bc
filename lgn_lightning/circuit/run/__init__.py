"""Runs netlists natively."""
