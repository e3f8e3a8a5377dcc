"""Seeded traffic of a comparison site with labelled faults: the platform's ground truth.

Belongs here: generating messages (``generate``, ``live``), the truth about them, handing them to the broker.
Does not belong here: anything that reads what the platform made of them. ``send`` is not imported here, so that
generating needs no Kafka client.
"""

from chart_platform.simulator.behaviour import (
    EXPERIMENT_KEY,
    TRUE_RELATIVE_LIFT,
    expected_conversion,
    session_conversion,
)
from chart_platform.simulator.config import Burst, FaultRates, SimulationConfig
from chart_platform.simulator.history import generate
from chart_platform.simulator.live import Clock, SystemClock, live
from chart_platform.simulator.messages import FAULTS, Label, Message
from chart_platform.simulator.truth import GroundTruth, GroundTruthWriter, read_lines

__all__ = [
    "EXPERIMENT_KEY",
    "FAULTS",
    "TRUE_RELATIVE_LIFT",
    "Burst",
    "Clock",
    "FaultRates",
    "GroundTruth",
    "GroundTruthWriter",
    "Label",
    "Message",
    "SimulationConfig",
    "SystemClock",
    "expected_conversion",
    "generate",
    "live",
    "read_lines",
    "session_conversion",
]
