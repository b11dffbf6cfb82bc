"""Callbacks that watch a logic gate network while it trains; one a file, named by ``class_path`` in a recipe."""

if __name__ == "callbacks":
    raise ImportError("import lgn_lightning.callbacks: the folder callbacks/ installs under that name")

from lgn_lightning.callbacks.avoid_constant_inputs import AvoidConstantInputs
from lgn_lightning.callbacks.discretization_gap import DiscretizationGap
from lgn_lightning.callbacks.entropy_regularization import EntropyRegularization
from lgn_lightning.callbacks.export_circuit import ExportCircuit
from lgn_lightning.callbacks.fit_thresholds import FitThresholds
from lgn_lightning.callbacks.freeze_layers import FreezeLayers
from lgn_lightning.callbacks.gate_entropy import GateEntropy
from lgn_lightning.callbacks.refresh_candidates import RefreshCandidates
from lgn_lightning.callbacks.resample_gates import ResampleGates
from lgn_lightning.callbacks.resume_point import ResumePoint
from lgn_lightning.callbacks.sampler_schedule import SamplerSchedule
from lgn_lightning.callbacks.score_saturation import ScoreSaturation
from lgn_lightning.callbacks.step_progress import StepProgressBar
from lgn_lightning.callbacks.wire_penalty import WirePenalty
from lgn_lightning.callbacks.wire_schedule import WireSchedule

__all__ = [
    "AvoidConstantInputs",
    "DiscretizationGap",
    "EntropyRegularization",
    "ExportCircuit",
    "FitThresholds",
    "FreezeLayers",
    "GateEntropy",
    "RefreshCandidates",
    "ResampleGates",
    "ResumePoint",
    "SamplerSchedule",
    "ScoreSaturation",
    "StepProgressBar",
    "WirePenalty",
    "WireSchedule",
]
