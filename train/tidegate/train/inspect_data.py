"""What ``tidegate-train data check`` looks at: a name of the catalogue, or a recipe."""

from pathlib import Path

import pandas as pd

from tidegate.train import config
from tidegate.train.build import load_data
from tidegate.train.data.catalog import find_dataset, sentence_files, table_file, text_files
from tidegate.train.data.check import PARTS, Checked, check_files, count, notices
from tidegate.train.data.clean import SeriesProblem
from tidegate.train.data.corpus import Corpus, read_corpus
from tidegate.train.data.panel import Panel
from tidegate.train.data.series import Series
from tidegate.train.data.tables import load_panel
from tidegate.train.tasks.labelling import find_sentence_files
from tidegate.train.tasks.series import TableSource, find_table


def check(name: str) -> Checked:
    """Reads a data set as a training run would.

    Args:
        name: of the catalogue, or the path of a recipe (``.toml``).

    Raises:
        ValueError: there is no such data set, or it needs the settings of a recipe.
    """
    if name.endswith(".toml"):
        return _check_recipe(config.load(Path(name)))
    dataset = find_dataset(name)
    if dataset.task == "language_modelling" and dataset.format:
        return _check_text(read_corpus(name, text_files(dataset), dataset.unit))
    if dataset.format:
        return check_files(sentence_files(dataset))
    if dataset.table and dataset.files:
        return _check_table(TableSource(table_file(dataset), dataset.table, dataset.cuts))
    raise ValueError(
        f"dataset.name={name!r} is read by the settings of a recipe; give its TOML file"
    )


def _check_recipe(recipe: config.Config) -> Checked:
    dataset = find_dataset(recipe.dataset.name)
    if recipe.task == "labelling" and dataset.format:
        return check_files(find_sentence_files(recipe))
    if dataset.table:
        return _check_table(find_table(recipe))
    data = load_data(recipe)
    if isinstance(data, Panel):
        return Checked(_count_rows(data), (), ())
    if isinstance(data, Corpus):
        return _check_text(data)
    return Checked(count(data), (), tuple(notices(data)))


def _check_table(source: TableSource) -> Checked:
    """Reads every series and collects what is wrong in any."""
    problems: list[SeriesProblem] = []
    try:
        counts = _count_rows(load_panel(*source, report=problems.append))
    except ValueError:
        # Without a series that is whole there is nothing to count.
        if not problems:
            raise
        counts = pd.DataFrame({"part": PARTS, "series": 0, "rows": 0})
    return Checked(counts, tuple(problems), ())


def _count_rows(panel: Panel) -> pd.DataFrame:
    rows = []
    for part in PARTS:
        series: tuple[Series, ...] = getattr(panel, part)
        rows.append(
            {
                "part": part,
                "series": len(series),
                "rows": sum(map(len, series)),
                "from": str(min(one.timestamps[0] for one in series)),
                "to": str(max(one.timestamps[-1] for one in series)),
            }
        )
    return pd.DataFrame(rows)


def _check_text(corpus: Corpus) -> Checked:
    """Tokens of each part, and how many of them are unknown."""
    rows = []
    for part in PARTS:
        ids = getattr(corpus, part)
        rows.append(
            {
                "part": part,
                "tokens": len(ids),
                "unknown tokens": float((ids == 0).mean()),
                "vocabulary": len(corpus.vocabulary),
            }
        )
    return Checked(pd.DataFrame(rows), (), ())
