"""The command ``tidegate-train``: fit, tune, evaluate, export, data."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tidegate.train.data.catalog import CATALOG, FOLDER_VARIABLE, find_downloads
from tidegate.train.data.series import Part
from tidegate.v1.model_spec_pb2 import InferenceContract, ModelSpec, Parity

if TYPE_CHECKING:
    from tidegate.train.export import Provider, WeightFormat
    from tidegate.train.job import Result

# What shells report of a program that SIGINT ended.
_STOPPED = 130

# What loads MLflow, which takes seconds, is imported where it is used: `data list`
# and `--help` answer at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; None: the program's.

    Returns:
        0; 2 when the arguments, the configuration or the data do not fit; 130 when
        SIGINT stopped training, as shells count it.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    try:
        if options.command == "fit":
            return _fit(options, _overrides(rest))
        if options.command == "tune":
            _tune(options, _overrides(rest))
            return 0
        if rest:
            parser.error(f"unknown arguments: {' '.join(rest)}")
        if options.command == "evaluate":
            _evaluate(options.checkpoint, options.part, options.tables, options.mc_samples)
        elif options.command == "export":
            _export_or_check(options)
        elif options.action == "check":
            _check_data(options.data)
        elif options.action == "fetch":
            _fetch_data(options.name, options.to)
        else:
            _list_data()
    except ValueError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"tidegate-train: {error}", style="red", markup=False, highlight=False
        )
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate-train", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fit = commands.add_parser(
        "fit",
        help="train, evaluate, export and register one model",
        usage="tidegate-train fit CONFIG [--output DIR] [--resume] [--engine NAME] "
        "[--SECTION.KEY VALUE ...]",
        epilog="Every setting can be given by its dotted name, such as --training.epochs 5; lists "
        "and tables as JSON. The environment (TIDEGATE_TRAINING__EPOCHS=5) comes second, the file "
        "third.",
        allow_abbrev=False,
    )
    fit.add_argument("config", type=Path, help="a TOML file, such as models/recipes/co2.toml")
    fit.add_argument(
        "--output",
        type=Path,
        default=Path(".tidegate/models"),
        help="folder that gets NAME/model.onnx and NAME/model.pt (default: %(default)s)",
    )
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was interrupted, from OUTPUT/NAME/training.pt",
    )
    fit.add_argument(
        "--engine",
        choices=("local", "torchrun"),
        help="who runs the training (default: torchrun, if it started this process, else local)",
    )
    tune = commands.add_parser(
        "tune",
        help="search for better settings; needs tidegate[tune]",
        usage="tidegate-train tune CONFIG [--output DIR] [--SECTION.KEY VALUE ...]",
        epilog="Takes trials of the recipe's [tune] until the study has enough. Several workers "
        "run the same command, on one machine or several, with one tune.storage.",
        allow_abbrev=False,
    )
    tune.add_argument("config", type=Path, help="a TOML file with [tune.space]")
    tune.add_argument(
        "--output",
        type=Path,
        default=Path(".tidegate/models"),
        help="folder that gets NAME/best.toml (default: %(default)s)",
    )
    evaluate = commands.add_parser("evaluate", help="score a trained model", allow_abbrev=False)
    evaluate.add_argument("checkpoint", type=Path, help="model.pt, written by fit")
    evaluate.add_argument("--part", choices=("train", "validation", "test"), default="test")
    evaluate.add_argument(
        "--tables", type=Path, metavar="DIR", help="write the scores in detail there, as CSV files"
    )
    evaluate.add_argument(
        "--mc-samples",
        type=int,
        metavar="N",
        help="score the mean prediction of N networks sampled by masks per sequence",
    )
    export = commands.add_parser(
        "export",
        help="write the ONNX file anew, or check one",
        usage="tidegate-train export CHECKPOINT --output FILE "
        "[--weights int8 [--tolerance SHARE]]\n"
        "       tidegate-train export --check FILE [--provider cuda] [CHECKPOINT]",
        epilog="--check compares a file with the model rebuilt from the file's own weights and "
        "spec, or with that of a checkpoint, as the export did.",
        allow_abbrev=False,
    )
    export.add_argument("checkpoint", type=Path, nargs="?", help="model.pt, written by fit")
    wanted = export.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--output", type=Path, help="the ONNX file to write")
    wanted.add_argument("--check", type=Path, metavar="FILE", help="the ONNX file to check")
    export.add_argument(
        "--weights",
        choices=("float32", "int8"),
        default="float32",
        help="of --output: int8 makes a file of a quarter of the size, if the validation metric "
        "allows it (default: %(default)s)",
    )
    export.add_argument(
        "--tolerance",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="by which int8 may make that metric worse (default: %(default)s)",
    )
    export.add_argument(
        "--provider",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where --check runs the file (default: %(default)s)",
    )
    data = commands.add_parser("data", help="the data sets by name", allow_abbrev=False)
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print them", allow_abbrev=False)
    check = actions.add_parser(
        "check", help="read one, count it and name every line that is wrong", allow_abbrev=False
    )
    check.add_argument("data", help="a name that `data list` prints, or the TOML file of a recipe")
    fetch = actions.add_parser(
        "fetch", help="download one and check its sha256", allow_abbrev=False
    )
    fetch.add_argument("name", help="that `data list` prints")
    fetch.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help=f"folder that gets the data set's own (default: {FOLDER_VARIABLE})",
    )
    return parser


def _overrides(arguments: Sequence[str]) -> dict[str, str]:
    """``--a.b 1 --c=2`` as ``{"a.b": "1", "c": "2"}``."""
    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise ValueError(f"{name!r} stands alone; give settings as --section.key VALUE")
        if not equals:
            if not rest:
                raise ValueError(f"{name} has no value; give settings as --section.key VALUE")
            value = rest.pop(0)
        overrides[name.removeprefix("--")] = value
    return overrides


def _fit(options: argparse.Namespace, overrides: Mapping[str, str]) -> int:
    from tidegate.train import config, engines, job
    from tidegate.train.fit import Interrupted

    engine = engines.find_engine(options.engine)
    settings = config.load(options.config, overrides)
    with engines.processes_of(engine, settings) as processes:
        try:
            if not processes.is_first:
                job.assist(settings, processes)
                return 0
            result = job.run(settings, options.output, resume=options.resume, processes=processes)
        except Interrupted as stopped:
            if processes.is_first:
                _print(f"{stopped}, and saved; the same command with --resume goes on from there")
            return _STOPPED
    _print_result(result)
    return 0


def _print_result(result: "Result") -> None:
    _print_metrics(f"{result.config.name}: test part", result.evaluation.metrics)
    fitted, registered = result.fitted, result.registered
    champion = "champion" if registered.is_champion else "not champion"
    _print(f"trained in {fitted.seconds:.1f} s; best epoch {fitted.best_epoch}")
    _print_parity(result.path, result.spec)
    _print(f"registered {registered.name} {registered.version}: {champion}, {registered.reason}")
    _print(f"to look at it: mlflow ui --backend-store-uri {result.config.tracking.uri}")


def _tune(options: argparse.Namespace, overrides: Mapping[str, str]) -> None:
    from tidegate.train.tune import tune

    tuned = tune(options.config, options.output, overrides)
    _print(f"{tuned.study}: {tuned.trials} trials; best {tuned.metric} {tuned.score:.6g} with")
    for name, value in tuned.settings.items():
        _print(f"  {name} = {value!r}")
    _print(f"wrote {tuned.recipe}; train it with tidegate-train fit {tuned.recipe}")


def _evaluate(path: Path, part: Part, folder: Path | None, mc_samples: int | None) -> None:
    from tidegate.train import checkpoint, job

    loaded = checkpoint.load(path)
    evaluation = job.evaluate(loaded.config, loaded.model, loaded.data, part, mc_samples=mc_samples)
    networks = f", mean of {mc_samples} networks" if mc_samples else ""
    _print_metrics(f"{loaded.config.name}: {part} part{networks}", evaluation.metrics)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in evaluation.tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
        _print(f"wrote {folder / name}.csv")


def _export_or_check(options: argparse.Namespace) -> None:
    if options.check is not None:
        _check(options.check, options.checkpoint, options.provider)
    elif options.checkpoint is None:
        raise ValueError("export --output takes a checkpoint: model.pt, written by fit")
    else:
        _export(options.checkpoint, options.output, options.weights, options.tolerance)


def _export(path: Path, output: Path, weights: "WeightFormat", tolerance: float) -> None:
    from tidegate.train import checkpoint, job

    loaded = checkpoint.load(path)
    evaluation = job.evaluate(loaded.config, loaded.model, loaded.data)
    spec = job.export(
        loaded.config,
        loaded.model,
        loaded.data,
        evaluation,
        output,
        weights=weights,
        tolerance=tolerance,
    )
    _print_parity(output, spec)
    if weights != "float32":
        for name, value in evaluation.metrics.items():
            _print(f"{name} of the test part: {spec.metrics[name]:.6g}, float32 {value:.6g}")


def _check(path: Path, checkpoint: Path | None, provider: "Provider") -> None:
    from tidegate.train.export import check_file

    model = None
    if checkpoint is not None:
        from tidegate.train.checkpoint import load

        model = load(checkpoint).model
    checked = check_file(path, model, provider)
    contract = InferenceContract.Name(checked.spec.contract).rpartition("_")[2].lower()
    source = "its own weights" if checkpoint is None else checkpoint
    _print(f"{path}: spec, graph and the contract {contract!r} agree")
    _print(f"largest difference from {source} in PyTorch: {_in_words(checked.parity)}")
    _print(f"when it was exported: {_in_words(checked.spec.parity)}")


def _list_data() -> None:
    table = Table("name", "task", "source", f"below {FOLDER_VARIABLE}")
    for dataset in CATALOG.values():
        table.add_row(dataset.name, dataset.task, dataset.source, dataset.folder or "-")
    Console().print(table)


def _check_data(name: str) -> None:
    """Prints counts, notices and problems.

    Raises:
        ValueError: there are problems, or nothing can be read at all.
    """
    from tidegate.train import inspect_data

    checked = inspect_data.check(name)
    table = Table(*map(str, checked.counts.columns), title=name, title_justify="left")
    for row in checked.counts.itertuples(index=False):
        table.add_row(
            *(f"{value:.1%}" if isinstance(value, float) else str(value) for value in row)
        )
    Console().print(table)
    for line in checked.notices:
        _print(f"notice: {line}")
    for problem in checked.problems:
        _print(f"problem: {problem}")
    if checked.problems:
        raise ValueError(f"{len(checked.problems)} problems in {name}; correct them")


def _fetch_data(name: str, to: Path | None) -> None:
    """Downloads the files that are not there yet."""
    from tidegate.train.data.fetch import fetch

    dataset, downloads = find_downloads(name)
    root = to or os.environ.get(FOLDER_VARIABLE)
    if not root:
        raise ValueError(
            f"--to is missing and {FOLDER_VARIABLE} is not set; give the folder that gets "
            f"{dataset.folder}/"
        )
    folder = Path(root) / (dataset.folder or "")
    _print(f"{name}: {dataset.source}")
    written = fetch(downloads, folder)
    for path in written:
        _print(f"wrote {path}")
    _print(f"{folder}: {len(downloads)} files, each with the right sha256")
    if to is not None:
        _print(f"to train on it: export {FOLDER_VARIABLE}={to.absolute()}")


def _print(line: str) -> None:
    Console(soft_wrap=True).print(line, highlight=False, markup=False)


def _print_parity(path: Path, spec: ModelSpec) -> None:
    parity = spec.parity
    _print(f"wrote {path}; largest difference from PyTorch {_in_words(parity)}")


def _in_words(parity: Parity) -> str:
    return (
        f"{parity.max_absolute_error:.1e}, relative {parity.max_relative_error:.1e}, in "
        f"{parity.cases} cases ({parity.largest_at})"
    )


def _print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    table = Table("metric", "value", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
