"""The data sets by name."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidegate.train.arguments import check_choice
from tidegate.train.data.conllu import read_conllu
from tidegate.train.data.sentences import SentenceSplit

FOLDER_VARIABLE = "TIDEGATE_DATA"


@dataclass(frozen=True)
class Dataset:
    """An entry of the catalogue.

    Attributes:
        name: as in a configuration's ``dataset.name``.
        task: what it is for.
        source: where it comes from.
        folder: below the folder that TIDEGATE_DATA names; None: needs none.
    """

    name: str
    task: Literal["forecasting", "labelling"]
    source: str
    folder: str | None = None


CATALOG: dict[str, Dataset] = {
    one.name: one
    for one in (
        Dataset("co2", "forecasting", "Mauna Loa CO2 by week; comes with statsmodels"),
        Dataset("csv", "forecasting", "a CSV file of yours, dataset.path"),
        Dataset("homographs", "labelling", "generated; labels need the words to the right"),
        Dataset(
            "ud_english_ewt",
            "labelling",
            "Universal Dependencies English EWT r2.5, https://universaldependencies.org",
            "ud_english_ewt_r2.5",
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """The entry of a name.

    Raises:
        ValueError: there is none.
    """
    check_choice("dataset.name", name, CATALOG)
    return CATALOG[name]


def dataset_folder(dataset: Dataset) -> Path:
    """Where a data set of files lies on this machine.

    Raises:
        ValueError: TIDEGATE_DATA is not set, or the folder is not below it.
    """
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        raise ValueError(
            f"data set {dataset.name!r} is read from files: set the environment variable "
            f"{FOLDER_VARIABLE} to the folder that holds {dataset.folder}/ "
            f"(source: {dataset.source})"
        )
    folder = Path(root) / (dataset.folder or "")
    if not folder.is_dir():
        raise ValueError(
            f"{FOLDER_VARIABLE}={root!r} has no folder {dataset.folder!r}; put data set "
            f"{dataset.name!r} there (source: {dataset.source})"
        )
    return folder


def load_ud_english_ewt() -> SentenceSplit:
    """Reads the English Web Treebank, universal part-of-speech tags as labels.

    Raises:
        ValueError: the files are not there.
    """
    folder = dataset_folder(CATALOG["ud_english_ewt"])
    train, validation, test = (
        read_conllu(folder / f"en_ewt-ud-{part}.conllu.gz") for part in ("train", "dev", "test")
    )
    return SentenceSplit("ud_english_ewt", train, validation, test)
