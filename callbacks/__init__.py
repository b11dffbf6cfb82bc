"""Callbacks that watch or change how a logic gate network trains; one a file, named by ``class_path`` in a recipe."""

if __name__ == "callbacks":
    raise ImportError("import lgn_lightning.callbacks: the folder callbacks/ installs under that name")

from lgn_lightning.callbacks.avoid_constant_inputs import AvoidConstantInputs
from lgn_lightning.callbacks.confidence_temperature import ConfidenceTemperature
from lgn_lightning.callbacks.discretization_gap import DiscretizationGap
from lgn_lightning.callbacks.export_circuit import ExportCircuit
from lgn_lightning.callbacks.fit_thresholds import FitThresholds
from lgn_lightning.callbacks.fpga_cost import FpgaCost
from lgn_lightning.callbacks.freeze_slots import FreezeSlots
from lgn_lightning.callbacks.gate_entropy import GateEntropy
from lgn_lightning.callbacks.hardware_price import HardwarePrice
from lgn_lightning.callbacks.layer_summary import LayerSummary
from lgn_lightning.callbacks.local_candidates import LocalCandidates
from lgn_lightning.callbacks.refresh_candidates import RefreshCandidates
from lgn_lightning.callbacks.resample_slots import ResampleSlots
from lgn_lightning.callbacks.resume_point import ResumePoint
from lgn_lightning.callbacks.sampler_schedule import SamplerSchedule
from lgn_lightning.callbacks.score_saturation import ScoreSaturation
from lgn_lightning.callbacks.state_activity import StateActivity
from lgn_lightning.callbacks.step_progress import StepProgressBar
from lgn_lightning.callbacks.threshold_hint import ThresholdHint
from lgn_lightning.callbacks.wire_penalty import WirePenalty
from lgn_lightning.callbacks.wire_schedule import WireSchedule

__all__ = [
    "AvoidConstantInputs",
    "ConfidenceTemperature",
    "DiscretizationGap",
    "ExportCircuit",
    "FitThresholds",
    "FpgaCost",
    "FreezeSlots",
    "GateEntropy",
    "HardwarePrice",
    "LayerSummary",
    "LocalCandidates",
    "RefreshCandidates",
    "ResampleSlots",
    "ResumePoint",
    "SamplerSchedule",
    "ScoreSaturation",
    "StateActivity",
    "StepProgressBar",
    "ThresholdHint",
    "WirePenalty",
    "WireSchedule",
]

#: Names of 0.1 that were removed, and what to use instead. docs/notes/accuracy.md has the measurements.
_REMOVED = {
    "EntropyRegularization": "sampler: straight_through, which has no discretization gap, or SamplerSchedule",
    "FreezeLayers": "sampler: straight_through, which has no discretization gap",
    "ResampleGates": "connections: learned, with RefreshCandidates",
}


def __getattr__(name: str) -> object:
    """Says what replaces a removed name; no AttributeError, which `from … import` would replace by one of its own."""
    if name in _REMOVED:
        raise ImportError(f"lgn_lightning.callbacks.{name} was removed in 0.2: it gained nothing; use {_REMOVED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
