"""From a configuration to data and an untrained model."""

from typing import Any

import torch
from torch import nn

from tidegate.train.config import Config, DataSettings
from tidegate.train.data.catalog import find_dataset
from tidegate.train.data.check import Checked
from tidegate.train.tasks import TASKS, Data, TaskDefinition


def load_data(config: Config) -> Data:
    """Loads the data set of a configuration, split into its three parts.

    Raises:
        ValueError: the data set is unknown, for another task, or not there.
    """
    data: Data = _task_of_data(config).load_data(DataSettings.of(config))
    return data


class DataCache:
    """Loads data sets, and keeps the latest for configurations that differ in nothing of it."""

    def __init__(self) -> None:
        self._settings: DataSettings | None = None
        self._data: Data | None = None

    def load(self, config: Config) -> Data:
        """Does what :func:`load_data` does, from memory where that holds the same.

        Raises:
            ValueError: the data set is unknown, for another task, or not there.
        """
        settings = DataSettings.of(config)
        if self._data is None or settings != self._settings:
            self._data, self._settings = load_data(config), settings
        return self._data


def check_data(config: Config) -> Checked:
    """Reads the data set of a configuration and collects what is wrong in it.

    Raises:
        ValueError: the data set is unknown, for another task, or cannot be read at all.
    """
    return _task_of_data(config).check_data(DataSettings.of(config))


def build_model(config: Config, data: Data) -> nn.Module:
    """Builds the untrained model; its weights follow from the seed alone.

    Scaler, vocabulary and label names are taken from the training part only. A
    stack deeper than is usual for the training part warns.

    Raises:
        ValueError: configuration and data do not fit each other.
    """
    torch.manual_seed(config.seed)
    model: nn.Module = TASKS[config.task].build_model(config, data)
    return model


def _task_of_data(config: Config) -> TaskDefinition[Any, Any, Any]:
    dataset = find_dataset(config.dataset.name)
    if dataset.task != config.task:
        raise ValueError(
            f"dataset.name={dataset.name!r} is for task = {dataset.task!r}, and task = "
            f"{config.task!r}; change one of them"
        )
    return TASKS[config.task]
