"""The series of ``[dataset]``, read as it says."""

from dataclasses import fields, replace

from tidegate.train.config import DataSettings
from tidegate.train.config.dataset import DatasetConfig
from tidegate.train.data.catalog import find_dataset, table_file
from tidegate.train.data.clean import SeriesReport, refuse
from tidegate.train.data.co2 import load_co2
from tidegate.train.data.panel import Panel
from tidegate.train.data.split import Cuts, split_panel
from tidegate.train.data.table import TableLayout
from tidegate.train.data.tables import load_panel


def load_series(settings: DataSettings, report: SeriesReport = refuse) -> Panel:
    """Reads series, cut into their three parts.

    Args:
        settings: of a forecasting task.
        report: gets every problem of a table; series with problems are left out.

    Raises:
        ValueError: the data set is not there, or does not fit the settings.
    """
    section = settings.dataset
    dataset = find_dataset(section.name)
    if dataset.table is None:
        return split_panel([load_co2()], _cuts(section, Cuts()), section.targets or ())
    # The settings given, and those of the catalogue for the rest.
    layout = replace(dataset.table, **section.given(one.name for one in fields(TableLayout)))
    cuts = _cuts(section, dataset.cuts)
    return load_panel(table_file(dataset, section.path), layout, cuts, settings.horizon, report)


def _cuts(section: DatasetConfig, usual: Cuts) -> Cuts:
    """Dates or rows given take the place of those of the catalogue."""
    if section.part_rows:
        return Cuts(rows=section.part_rows)
    if section.train_until or section.validation_until:
        return Cuts(section.train_until, section.validation_until)
    return usual
