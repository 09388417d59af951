"""The training loop, in plain torch."""

from tidegate.train.fit.forecasting import ForecastingTask
from tidegate.train.fit.labelling import LabellingTask
from tidegate.train.fit.loop import Epoch, Fitted, Task, TrainingError, fit

__all__ = [
    "Epoch",
    "Fitted",
    "ForecastingTask",
    "LabellingTask",
    "Task",
    "TrainingError",
    "fit",
]
