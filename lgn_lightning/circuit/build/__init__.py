"""From modules to netlists."""
