"""The layers of logic gate networks."""

from lgn_lightning.nn.automaton import LogicAutomaton, life_circuit
from lgn_lightning.nn.blocks import LogicConcat, LogicResidual
from lgn_lightning.nn.cell import LogicCell
from lgn_lightning.nn.columns import Columns
from lgn_lightning.nn.conv import LogicTreeConv2d, OrPool2d
from lgn_lightning.nn.edges import EdgeChannels
from lgn_lightning.nn.encoders import Intensity, Threshold, uniform_thresholds
from lgn_lightning.nn.folded_conv import LogicTreeConv1d, LogicTreeConv3d, OrPool1d, OrPool3d
from lgn_lightning.nn.gate_layer import GateLayer
from lgn_lightning.nn.group_sum import GroupSum, recommended_tau
from lgn_lightning.nn.learned_connections import LearnedConnections, LearnedLeaves
from lgn_lightning.nn.logic_layer import LogicLayer
from lgn_lightning.nn.lut_layer import LutLayer
from lgn_lightning.nn.original import load_difflogic_state_dict
from lgn_lightning.nn.packed import PackBitsTensor
from lgn_lightning.nn.recurrent import LogicRecurrent, Steps
from lgn_lightning.nn.sequential import LogicSequential, fused_layers, logic_layers, soft_gates
from lgn_lightning.nn.slot_layer import SlotLayer
from lgn_lightning.nn.steps import StepEncoder

__all__ = [
    "Columns",
    "EdgeChannels",
    "GateLayer",
    "GroupSum",
    "Intensity",
    "LearnedConnections",
    "LearnedLeaves",
    "LogicAutomaton",
    "LogicCell",
    "LogicConcat",
    "LogicLayer",
    "LogicRecurrent",
    "LogicResidual",
    "LogicSequential",
    "LogicTreeConv1d",
    "LogicTreeConv2d",
    "LogicTreeConv3d",
    "LutLayer",
    "OrPool1d",
    "OrPool2d",
    "OrPool3d",
    "PackBitsTensor",
    "SlotLayer",
    "StepEncoder",
    "Steps",
    "Threshold",
    "fused_layers",
    "life_circuit",
    "load_difflogic_state_dict",
    "logic_layers",
    "recommended_tau",
    "soft_gates",
    "uniform_thresholds",
]
