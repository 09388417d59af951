"""``tidegate-train evaluate``: score a trained model."""

import argparse
from pathlib import Path

from tidegate.train.commands.command import Command
from tidegate.train.commands.printing import print_line, print_metrics


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="model.pt, written by fit")
    parser.add_argument("--part", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="write the scores in detail there, as CSV files"
    )
    parser.add_argument(
        "--mc-samples",
        type=int,
        metavar="N",
        help="score the mean prediction of N networks sampled by masks per sequence",
    )


def _run(options: argparse.Namespace) -> int:
    from tidegate.train import checkpoint, job

    part, mc_samples = options.part, options.mc_samples
    loaded = checkpoint.load(options.checkpoint)
    evaluation = job.evaluate(loaded.config, loaded.model, loaded.data, part, mc_samples=mc_samples)
    networks = f", mean of {mc_samples} networks" if mc_samples else ""
    print_metrics(f"{loaded.config.name}: {part} part{networks}", evaluation.metrics)
    if options.tables is not None:
        options.tables.mkdir(parents=True, exist_ok=True)
        for name, table in evaluation.tables.items():
            file = options.tables / f"{name}.csv"
            table.to_csv(file, index=False)
            print_line(f"wrote {file}")
    return 0


EVALUATE = Command("evaluate", "score a trained model", _add_options, _run)
