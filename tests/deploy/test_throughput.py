import time

import numpy as np
import pytest

from lgn_lightning.deploy.throughput import images_per_second, samples_per_second


def test_calls_take_turns_and_the_first_of_each_is_not_counted() -> None:
    order = []

    def slow_at_first() -> None:
        order.append("a")
        time.sleep(0.3 if order.count("a") == 1 else 0.002)

    rates = samples_per_second([slow_at_first, lambda: order.append("b")], 100, rounds=3)
    assert order == ["a", "b"] * 4
    assert 100 / 0.3 < rates[0] < 100 / 0.002
    assert rates[1] > rates[0]


@pytest.mark.parametrize(("pause", "most"), [(0.06, 256), (0.0, 65_536)])
def test_the_batch_grows_until_a_call_takes_long_enough(pause: float, most: int) -> None:
    sizes: list[int] = []

    def predict(x: np.ndarray) -> None:
        assert x.flags.c_contiguous
        assert np.array_equal(x[:3], images)
        sizes.append(len(x))
        time.sleep(pause)

    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2)
    assert images_per_second(predict, images) > 0
    assert sizes[-6:] == [most] * 6
