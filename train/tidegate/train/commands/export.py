"""``tidegate-train export``: write the ONNX file anew, or check one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.train.commands.command import Command
from tidegate.train.commands.printing import parity_text, print_line, print_parity
from tidegate.v1.model_spec_pb2 import InferenceContract

if TYPE_CHECKING:
    from tidegate.train.export import Provider


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "tidegate-train export CHECKPOINT --output FILE "
        "[--weights float16|int8 | --mc-masks] [--tolerance SHARE]\n"
        "       tidegate-train export --check FILE [--provider cuda] [CHECKPOINT]"
    )
    parser.epilog = (
        "--check compares a file with the model rebuilt from the file's own weights and "
        "spec, or with that of a checkpoint, as the export did."
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="model.pt, written by fit")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--output", type=Path, help="the ONNX file to write")
    wanted.add_argument("--check", type=Path, metavar="FILE", help="the ONNX file to check")
    parser.add_argument(
        "--weights",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of --output: float16, for GPUs, makes a file of half the size and int8 one of a "
        "quarter, if the validation metric allows it (default: %(default)s)",
    )
    parser.add_argument(
        "--mc-masks",
        action="store_true",
        help="of --output: the masks of Monte Carlo inference become inputs, for callers of ONNX "
        "Runtime that draw them; the server refuses such a file",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="by which rounded weights may make that metric worse, or --mc-masks change scores "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--provider",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where --check runs the file (default: %(default)s)",
    )


def _run(options: argparse.Namespace) -> int:
    if options.check is not None:
        _check(options.check, options.checkpoint, options.provider)
    elif options.checkpoint is None:
        raise ValueError("export --output takes a checkpoint: model.pt, written by fit")
    else:
        _export(options)
    return 0


def _export(options: argparse.Namespace) -> None:
    from tidegate.train import checkpoint, job

    loaded = checkpoint.load(options.checkpoint)
    evaluation = job.evaluate(loaded.config, loaded.model, loaded.data)
    spec = job.export(
        loaded.config,
        loaded.model,
        loaded.data,
        evaluation,
        options.output,
        weights=options.weights,
        mc_masks=options.mc_masks,
        tolerance=options.tolerance,
    )
    print_parity(options.output, spec)
    if options.weights != "float32" or options.mc_masks:
        before = "without masks" if options.mc_masks else "float32"
        for name, value in evaluation.metrics.items():
            print_line(f"{name} of the test part: {spec.metrics[name]:.6g}, {before} {value:.6g}")


def _check(path: Path, checkpoint: Path | None, provider: "Provider") -> None:
    from tidegate.train.export import check_file

    model = None
    if checkpoint is not None:
        from tidegate.train.checkpoint import load

        model = load(checkpoint).model
    checked = check_file(path, model, provider)
    contract = InferenceContract.Name(checked.spec.contract).rpartition("_")[2].lower()
    source = "its own weights" if checkpoint is None else checkpoint
    print_line(f"{path}: spec, graph and the contract {contract!r} agree")
    print_line(f"largest difference from {source} in PyTorch: {parity_text(checked.parity)}")
    print_line(f"when it was exported: {parity_text(checked.spec.parity)}")


EXPORT = Command("export", "write the ONNX file anew, or check one", _add_options, _run)
