"""The series of ``[dataset]``, read as it says."""

from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from tidegate.train.config import Config
from tidegate.train.data.catalog import find_dataset, table_file
from tidegate.train.data.clean import SeriesReport, refuse
from tidegate.train.data.co2 import load_co2
from tidegate.train.data.panel import Panel
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import load_panel


class _TableSource(NamedTuple):
    """A table and how to read it."""

    file: Path
    layout: TableLayout
    cuts: Cuts


def load_series(config: Config, report: SeriesReport = refuse) -> Panel:
    """Reads the series of a configuration, cut into their three parts.

    Args:
        config: of a forecasting task.
        report: gets every problem of a table; series with problems are left out.

    Raises:
        ValueError: the data set is not there, or does not fit the configuration.
    """
    section = config.dataset
    if find_dataset(section.name).table is None:
        return split_panel([load_co2()], _cuts(config, Cuts()), section.targets or ())
    source = _find_table(config)
    return load_panel(*source, config.forecast.horizon, report)


def _find_table(config: Config) -> _TableSource:
    """The table of ``[dataset]``: the settings given, and those of the catalogue for the rest.

    Raises:
        ValueError: the data set is no table, or not there.
    """
    section = config.dataset
    dataset = find_dataset(section.name)
    if dataset.table is None:
        raise ValueError(f"dataset.name={section.name!r} is not read from a table")
    given = section.given(one.name for one in fields(TableLayout))
    layout = replace(dataset.table, **given)
    return _TableSource(table_file(dataset, section.path), layout, _cuts(config, dataset.cuts))


def _cuts(config: Config, usual: Cuts) -> Cuts:
    """Dates or rows given take the place of those of the catalogue."""
    section = config.dataset
    if section.part_rows:
        return Cuts(rows=section.part_rows)
    if section.train_until or section.validation_until:
        return Cuts(section.train_until, section.validation_until)
    return usual
