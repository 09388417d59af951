"""The tasks by name: one file for each, and here what all have in common."""

from collections.abc import Mapping
from typing import Any

from tidegate.train.tasks.definition import Data, Evaluation, TaskDefinition
from tidegate.train.tasks.forecasting import Forecasting
from tidegate.train.tasks.labelling import Labelling
from tidegate.train.tasks.language_modelling import LanguageModelling

TASKS: Mapping[str, TaskDefinition[Any, Any, Any]] = {
    "forecasting": Forecasting(),
    "labelling": Labelling(),
    "language_modelling": LanguageModelling(),
}

__all__ = ["TASKS", "Data", "Evaluation", "TaskDefinition"]
