"""Throughput of whatever runs a circuit, measured in one way: medians of calls that were made in turn."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Images of a timed call at most, a multiple of the widest machine word, and how long a call need not be longer than.
_MOST_IMAGES = 65_536
_ENOUGH_SECONDS = 0.05


def samples_per_second(calls: Sequence[Callable[[], object]], samples: int, rounds: int = 5) -> list[float]:
    """Times calls in turn, so that a busy spell slows all of them: the median of each, after one to warm up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, values in zip(calls, seconds, strict=True):
            elapsed = _seconds(call)
            if turn:
                values.append(elapsed)
    return [samples / median(values) for values in seconds]


def rate_text(rate: float) -> str:
    """Samples per second as all tables show them: ``4.24 M``, ``98,765``."""
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate:,.0f}"


def images_per_second(predict: Callable[[NDArray[np.uint8]], Any], images: NDArray[np.uint8]) -> float:
    """Measures a classifier on images, uint8 ``[N, C, H, W]``, repeated until a call takes long enough to time."""
    count = 256
    while True:
        call = partial(predict, np.ascontiguousarray(np.resize(images, (count, *images.shape[1:]))))
        if count == _MOST_IMAGES or _seconds(call) > _ENOUGH_SECONDS:
            return samples_per_second([call], count)[0]
        count = min(4 * count, _MOST_IMAGES)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
