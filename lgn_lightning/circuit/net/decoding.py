"""`Decoding`: what a circuit's counts say: the highest, levels by thresholds, labels, or numbers. Data only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: How counts are decided on; their places are their numbers in compiled C.
KINDS: Final = ("argmax", "levels", "labels", "numbers")


@dataclass(frozen=True)
class Decoding:
    """How the counts of a circuit, its sums of ones, are decided on.

    Attributes:
        kind: ``"argmax"``: the class of the highest count, the first of equals. ``"levels"``: of one count, the number
            of thresholds that it reaches; yes or no has one threshold. ``"labels"``: whether each count reaches its
            threshold. ``"numbers"``: offset + scale · count of each.
        thresholds: Whole counts, but of nets that do not sum up bits; of levels in ascending order.
        scale: Of each number or label; of levels one. Scale and offset of levels and labels give logits.
        offset: Of each number or label, or of each threshold of levels.

    Raises:
        ValueError: If the parts do not fit one another.
    """

    kind: str = "argmax"
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # The values may come from a file: they are of these types from here on.
        for name in ("thresholds", "scale", "offset"):
            numbers = tuple(float(value) for value in getattr(self, name))
            if not np.isfinite(numbers).all():
                raise ValueError(f"{self.kind}: {name} {numbers} are not finite")
            whole = name == "thresholds"
            numbers = tuple(int(value) if whole and value.is_integer() else value for value in numbers)
            object.__setattr__(self, name, numbers)
        if self.kind not in KINDS:
            raise ValueError(f"a decoding of the kind {self.kind!r} is none of {', '.join(KINDS)}")
        many = max(1, len(self.offset))
        wanted = {"argmax": (0, 0, 0), "levels": (many, 1, many), "labels": (many,) * 3, "numbers": (0, many, many)}
        sizes = len(self.thresholds), len(self.scale), len(self.offset)
        if sizes != wanted[self.kind]:
            raise ValueError(f"{self.kind}: {sizes[0]} thresholds, {sizes[1]} scales and {sizes[2]} offsets do not fit")
        if self.kind == "levels" and list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(f"the thresholds of levels are not in order: {self.thresholds}")
        if any(abs(threshold) >= 2**31 for threshold in self.thresholds):
            raise ValueError("a threshold is no int32")

    @property
    def groups(self) -> int | None:
        """Counts that it is for; None for any number of them."""
        return None if self.kind == "argmax" else 1 if self.kind == "levels" else len(self.offset)

    def num_names(self, groups: int) -> int:
        """Classes, levels, labels or numbers: what may have names."""
        return len(self.thresholds) + 1 if self.kind == "levels" else groups

    @property
    def is_class(self) -> bool:
        """Whether the decision is a class or a level."""
        return self.kind in ("argmax", "levels")

    def decide(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Decides on counts ``[N, groups]``.

        Returns:
            Classes or levels int32 ``[N]``, labels bool ``[N, groups]``, or numbers float64 ``[N, groups]``.
        """
        if self.kind == "argmax":
            return np.asarray(counts.argmax(axis=1), dtype=np.int32)
        if self.kind == "numbers":
            return np.add(self.offset, np.multiply(self.scale, counts.astype(np.float64)))
        reached = counts >= np.array(self.thresholds)
        return np.asarray(reached if self.kind == "labels" else reached.sum(axis=1, dtype=np.int32))

    def probabilities(self, counts: NDArray[Any], tau: float) -> NDArray[np.float64] | None:
        """Probabilities ``[N, names]`` as the training's loss takes them: softmax of the counts over tau, or sigmoids.

        Those of labels are each for itself. None for numbers.
        """
        if self.kind == "numbers":
            return None
        if self.kind == "argmax":
            powers = np.exp((counts - counts.max(axis=1, keepdims=True)) / tau)
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        logits = np.asarray(self.offset) + np.asarray(self.scale) * counts.astype(np.float64)
        above = 0.5 * (1 + np.tanh(logits / 2))  # the sigmoid, without overflow
        if self.kind == "labels":
            return np.asarray(above)
        edges = np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
        return np.asarray(edges[:, :-1] - edges[:, 1:])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that are empty."""
        return {name: value if name == "kind" else list(value) for name, value in asdict(self).items() if value}

    def describe(self, names: Sequence[str] | None = None) -> str:
        """One line of text on it."""
        if self.kind == "argmax":
            return "the class of the highest count"
        if self.kind == "numbers":
            return "; ".join(f"{o:.17g} + {s:.17g} * count" for s, o in zip(self.scale, self.offset, strict=True))
        return f"{self.kind} by the thresholds {', '.join(map(str, self.thresholds))}"


#: The class of the highest count.
ARGMAX: Final = Decoding()
