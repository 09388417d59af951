"""``tidegate-train fit``: train, evaluate, export and register one model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.train.commands.command import DEFAULT_OUTPUT, Command
from tidegate.train.commands.printing import print_line, print_metrics, print_parity

if TYPE_CHECKING:
    from tidegate.train.job import Result

# What shells report of a program that SIGINT ended.
_STOPPED = 130


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "tidegate-train fit CONFIG [--output DIR] [--resume] [--engine NAME] "
        "[--SECTION.KEY VALUE ...]"
    )
    parser.epilog = (
        "Every setting can be given by its dotted name, such as --training.epochs 5; lists and "
        "tables as JSON. The environment (TIDEGATE_TRAINING__EPOCHS=5) comes second, the file "
        "third."
    )
    parser.add_argument("config", type=Path, help="a TOML file, such as models/recipes/co2.toml")
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="folder that gets NAME/model.onnx and NAME/model.pt (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was interrupted, from OUTPUT/NAME/training.pt",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "torchrun"),
        help="who runs the training (default: torchrun, if it started this process, else local)",
    )


def _run(options: argparse.Namespace) -> int:
    from tidegate.train import config, engines, job
    from tidegate.train.fit import Interrupted

    engine = engines.find_engine(options.engine)
    settings = config.load(options.config, options.settings)
    with engines.processes_of(engine, settings) as processes:
        try:
            if not processes.is_first:
                job.assist(settings, processes)
                return 0
            result = job.run(settings, options.output, resume=options.resume, processes=processes)
        except Interrupted as stopped:
            if processes.is_first:
                print_line(
                    f"{stopped}, and saved; the same command with --resume goes on from there"
                )
            return _STOPPED
    _print_result(result)
    return 0


def _print_result(result: "Result") -> None:
    print_metrics(f"{result.config.name}: test part", result.evaluation.metrics)
    fitted, registered = result.fitted, result.registered
    champion = "champion" if registered.is_champion else "not champion"
    print_line(f"trained in {fitted.seconds:.1f} s; best epoch {fitted.best_epoch}")
    print_parity(result.path, result.spec)
    print_line(
        f"registered {registered.name} {registered.version}: {champion}, {registered.reason}"
    )
    print_line(f"to look at it: mlflow ui --backend-store-uri {result.config.tracking.uri}")


FIT = Command(
    "fit", "train, evaluate, export and register one model", _add_options, _run, takes_settings=True
)
