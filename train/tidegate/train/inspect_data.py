"""What ``tidegate-train data check`` looks at: a name of the catalogue, or a recipe."""

from pathlib import Path

import pandas as pd

from tidegate.train import config
from tidegate.train.build import load_data
from tidegate.train.data.catalog import find_dataset, sentence_files
from tidegate.train.data.check import PARTS, Checked, check_files, count, notices
from tidegate.train.data.sentences import SentenceSplit
from tidegate.train.tasks.labelling import find_sentence_files


def check(name: str) -> Checked:
    """Reads a data set as a training run would.

    Args:
        name: of the catalogue, or the path of a recipe (``.toml``).

    Raises:
        ValueError: there is no such data set, or it needs the settings of a recipe.
    """
    if not name.endswith(".toml"):
        dataset = find_dataset(name)
        if not dataset.format:
            raise ValueError(
                f"dataset.name={name!r} is read by the settings of a recipe; give its TOML file"
            )
        return check_files(sentence_files(dataset))
    recipe = config.load(Path(name))
    if find_dataset(recipe.dataset.name).format:
        return check_files(find_sentence_files(recipe))
    data = load_data(recipe)
    if isinstance(data, SentenceSplit):
        return Checked(count(data), (), tuple(notices(data)))
    rows = [{"part": part, "rows": len(getattr(data, part))} for part in PARTS]
    return Checked(pd.DataFrame(rows), (), ())
