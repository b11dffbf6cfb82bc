"""Statistics, comparisons and proofs of netlists."""
