"""The trial that a circuit equals its net."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lgn_lightning.base.errors import ExportError
from lgn_lightning.circuit import Circuit
from lgn_lightning.deploy.trial import Trial, hard_counts, net_scores, random_samples
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, Threshold
from tests.circuit.random_circuits import image_circuit, random_circuit


def image_net(tau: float = 7.0) -> LogicSequential:
    return LogicSequential(
        Threshold([0.2, 0.8], in_shape=(1, 3, 5)), LogicLayer(30, 24), LogicLayer(24, 12), GroupSum(4, tau=tau)
    ).eval()


def test_random_samples_are_what_the_circuit_takes() -> None:
    assert random_samples(image_circuit(), 3).shape == (3, 1, 3, 5)
    assert random_samples(random_circuit(), 3).dtype == np.bool_
    assert np.array_equal(random_samples(image_circuit(), 9), random_samples(image_circuit(), 9))


@pytest.mark.parametrize("levels", [[127], [0, 63, 200], [254, 255], list(range(10, 250, 4))])
def test_random_samples_have_both_edges_of_every_threshold_at_every_pixel(levels: list[int]) -> None:
    circuit = random_circuit(inputs=15 * len(levels), levels=levels, image_shape=(1, 3, 5))
    pixels = random_samples(circuit).reshape(256, -1)
    for level in levels:
        assert (pixels == level).any(0).all()
        assert (pixels == min(level + 1, 255)).any(0).all()


def test_a_threshold_that_is_off_by_one_is_found() -> None:
    circuit = random_circuit(inputs=15, gates=0, levels=[127], image_shape=(1, 3, 5), classes=15)
    wrong = replace(circuit, levels=np.array([128], np.uint8))
    with pytest.raises(ExportError, match="disagrees"):
        Trial.of_circuit(circuit).compare(wrong.scores(random_samples(circuit)), "wrong circuit")


@pytest.mark.parametrize("tau", [1.0, 7.0, 0.3])
def test_the_counts_of_a_net_are_those_of_its_circuit_at_any_tau(tau: float) -> None:
    net = image_net(tau)
    circuit = Circuit.from_module(net)
    pixels = random_samples(circuit, 300)  # more than one block
    assert np.array_equal(hard_counts(circuit, net, pixels), circuit.scores(pixels))
    assert np.allclose(net_scores(net, pixels) * tau, circuit.scores(pixels))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_given_samples_become_what_the_circuit_takes(dtype: torch.dtype) -> None:
    net = image_net()
    circuit = Circuit.from_module(net)
    pixels = torch.from_numpy(random_samples(circuit, 20))
    samples = pixels if dtype == torch.uint8 else pixels / 255
    trial = Trial.of_net(circuit, net, samples.numpy(), "test")
    assert np.array_equal(trial.inputs, pixels)
    assert (trial.origin, trial.reference) == ("test", "hard net")
    assert trial.compare(circuit.scores(trial.inputs), "circuit") == "circuit"


def test_bits_that_come_as_numbers() -> None:
    net = LogicSequential(LogicLayer(6, 12), GroupSum(2, tau=3.0)).eval()
    bits = np.random.default_rng(0).integers(0, 2, (20, 6))
    for dtype in (np.float32, np.int64, np.bool_):
        trial = Trial.of_net(Circuit.from_module(net), net, bits.astype(dtype))
        assert np.array_equal(trial.inputs, bits.astype(bool))
        assert trial.origin == "validation"


def test_the_first_difference_is_named() -> None:
    trial = Trial.of_circuit(image_circuit(), 50)
    actual = trial.scores.copy()
    actual[[3, 8], 1] += 1
    assert trial.differences(actual).tolist() == [3, 8]
    with pytest.raises(ExportError, match=r"the engine .* on 2 of 50 random samples, first on sample 3"):
        trial.compare(actual, "engine")


def test_samples_that_cannot_be_written_to_pass_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    """As those of image files are; torch warns once a process unless told otherwise."""
    samples = random_samples(image_circuit(), 3)
    samples.flags.writeable = False
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        net_scores(image_net(), samples)
    finally:
        torch.set_warn_always(always)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]
