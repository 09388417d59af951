"""``tidegate-train fit``: train, evaluate, export and register one model."""

import argparse
from typing import TYPE_CHECKING

from tidegate.train.commands.command import Command, add_recipe_options
from tidegate.train.commands.printing import print_line, print_metrics, print_parity

if TYPE_CHECKING:
    from tidegate.train.job import Summary

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
    add_recipe_options(
        parser,
        config="a TOML file, such as models/recipes/co2.toml",
        output="NAME/model.onnx and NAME/model.pt",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was interrupted, from OUTPUT/NAME/training.pt",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "torchrun", "ray"),
        help="who runs the training: this process, those of torchrun, or ray.workers of Ray "
        "(tidegate[ray]) (default: torchrun, if it started this process, else local)",
    )


def _run(options: argparse.Namespace) -> int:
    from tidegate.train import config, engines
    from tidegate.train.fit import Interrupted

    engine = engines.find_engine(options.engine)
    settings = config.load(options.config, options.settings)
    try:
        summary = engine.fit(settings, options.output, resume=options.resume)
    except Interrupted as stopped:
        if engine.is_first:
            print_line(f"{stopped}, and saved; the same command with --resume goes on from there")
        return _STOPPED
    if summary is not None:
        _print_summary(summary)
    return 0


def _print_summary(summary: "Summary") -> None:
    print_metrics(f"{summary.config.name}: test part", summary.metrics)
    registered = summary.registered
    champion = "champion" if registered.is_champion else "not champion"
    print_line(f"trained in {summary.seconds:.1f} s; best epoch {summary.best_epoch}")
    print_parity(summary.path, summary.spec)
    print_line(
        f"registered {registered.name} {registered.version}: {champion}, {registered.reason}"
    )
    print_line(f"to look at it: mlflow ui --backend-store-uri {summary.config.tracking.uri}")


FIT = Command(
    "fit", "train, evaluate, export and register one model", _add_options, _run, takes_settings=True
)
