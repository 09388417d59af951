"""The training loop, in plain torch."""

from tidegate.train.fit.compute import Compute, choose_device
from tidegate.train.fit.forecasting import ForecastingTask
from tidegate.train.fit.interrupt import Interrupted, Interruption
from tidegate.train.fit.labelling import LabellingTask
from tidegate.train.fit.language_modelling import LanguageModellingTask
from tidegate.train.fit.loop import TrainingError, fit
from tidegate.train.fit.optimization import Optimization
from tidegate.train.fit.processes import Processes, ProcessGroup
from tidegate.train.fit.task import Epoch, Fitted, Task, Validated

__all__ = [
    "Compute",
    "Epoch",
    "Fitted",
    "ForecastingTask",
    "Interrupted",
    "Interruption",
    "LabellingTask",
    "LanguageModellingTask",
    "Optimization",
    "ProcessGroup",
    "Processes",
    "Task",
    "TrainingError",
    "Validated",
    "choose_device",
    "fit",
]
