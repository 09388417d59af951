"""What ``tidegate-train data check`` looks at: a name of the catalogue, or a recipe."""

from pathlib import Path

from tidegate.train.build import check_data
from tidegate.train.config import Config, load
from tidegate.train.config.dataset import DatasetConfig
from tidegate.train.data.catalog import find_dataset
from tidegate.train.data.check import Checked


def check(name: str) -> Checked:
    """Reads a data set as a training run would.

    Args:
        name: of the catalogue, or the path of a recipe (``.toml``).

    Raises:
        ValueError: there is no such data set, or it needs the settings of a recipe.
    """
    return check_data(load(Path(name)) if name.endswith(".toml") else _plain_recipe(name))


def _plain_recipe(name: str) -> Config:
    """A data set of files as the catalogue has it, by no setting of anyone's."""
    dataset = find_dataset(name)
    if not (dataset.files or dataset.format):
        raise ValueError(
            f"dataset.name={name!r} is read by the settings of a recipe; give its TOML file"
        )
    # Constructed, so that no variable of the environment is read.
    return Config.model_construct(name=name, task=dataset.task, dataset=DatasetConfig(name=name))
