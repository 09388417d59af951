"""`tidegate-client`: models, forecasts and labels from the command line."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tidegate.client import Client, ClientError, Security

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tidegate.v1.model_spec_pb2 import ForecastSpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        with Client(options.target.split(","), security=_security(options)) as client:
            options.command(client, options)
    except (ClientError, ValueError, OSError) as error:
        print(f"tidegate-client: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate-client", description="Asks a tidegate server for forecasts and labels."
    )
    parser.add_argument(
        "--target",
        default="127.0.0.1:50051",
        help="HOST:PORT, or several with commas between. Default: 127.0.0.1:50051.",
    )
    security = parser.add_argument_group("security")
    security.add_argument("--tls", action="store_true", help="encrypt")
    for option, text in (
        ("--tls-ca", "PEM file of the authorities to believe, in place of the system's"),
        ("--tls-certificate", "PEM file of the client's certificate"),
        ("--tls-key", "PEM file of the certificate's key"),
        ("--token-file", "file of the bearer token; without it, the variable TIDEGATE_TOKEN"),
    ):
        security.add_argument(option, type=Path, help=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    models = commands.add_parser("models", help="list the models of the server")
    models.set_defaults(command=_models)
    csv_help = "CSV file with a column for each feature of the model; - reads stdin"
    for name, command, text in (
        ("forecast", _forecast, "forecast after the last row of a CSV file"),
        ("stream", _stream, "forecast after every row of a CSV file, as the rows come"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("model", help="NAME, NAME/VERSION or NAME@ALIAS")
        sub.add_argument("file", nargs="?", default="-", help=csv_help)
        sub.set_defaults(command=command)
        if name == "stream":
            sub.add_argument("--key", default="stdin", help="key of the series. Default: stdin.")
    annotate = commands.add_parser("annotate", help="label the sentences of a text, one a line")
    annotate.add_argument("model", help="NAME, NAME/VERSION or NAME@ALIAS")
    annotate.add_argument("file", nargs="?", default="-", help="text file; - reads stdin")
    annotate.set_defaults(command=_annotate)
    return parser


def _security(options: argparse.Namespace) -> Security:
    file = options.token_file
    token = file.read_text(encoding="utf-8") if file else os.environ.get("TIDEGATE_TOKEN", "")
    return Security(
        tls=options.tls or bool(options.tls_ca or options.tls_certificate),
        ca=options.tls_ca,
        certificate=options.tls_certificate,
        key=options.tls_key,
        token=token.strip(),
    )


def _models(client: Client, _: argparse.Namespace) -> None:
    for model in client.list_models():
        name = "@".join([f"{model.name}/{model.version}", *model.aliases])
        print(f"{name:32}{model.task:14}{model.direction:16}{model.provider}")


def _forecast(client: Client, options: argparse.Namespace) -> None:
    spec = client.get_model(options.model).forecast
    with _opened(options.file) as file:
        rows = list(_rows(file, spec))
    writer = csv.writer(sys.stdout)
    writer.writerow(["step", "target", *_levels(spec)])
    writer.writerows(_lines(client.forecast(options.model, [rows])[0], spec))


def _stream(client: Client, options: argparse.Namespace) -> None:
    spec = client.get_model(options.model).forecast
    writer = csv.writer(sys.stdout)
    writer.writerow(["offset", "step", "target", *_levels(spec)])
    with _opened(options.file) as file, client.stream(options.model, [options.key]) as stream:
        for row in _rows(file, spec):
            offset = stream.next_offset(options.key)
            lines = _lines(stream.step(options.key, row), spec)
            writer.writerows([str(offset), *line] for line in lines)
            sys.stdout.flush()


def _annotate(client: Client, options: argparse.Namespace) -> None:
    with _opened(options.file) as file:
        sentences = [line.split() for line in file if line.strip()]
    for sentence, answer in zip(sentences, client.annotate(options.model, sentences), strict=True):
        words = [f"{w}/{label}" for w, label in zip(sentence, answer.labels, strict=False)]
        line = " ".join(words or sentence)
        print(f"{answer.sentence_label}\t{line}" if answer.sentence_label else line)


def _rows(file: TextIO, spec: ForecastSpec) -> Iterator[list[float]]:
    """The features of each line, in the model's order; an empty field is a missing value."""
    reader = csv.DictReader(file)
    names = [feature.name for feature in spec.features]
    missing = [name for name in names if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"the CSV header {reader.fieldnames} lacks {missing}")
    for row in reader:
        yield [_number(row, name, reader.line_num) for name in names]


def _number(row: dict[str, str], name: str, line: int) -> float:
    try:
        return float(row[name] or "nan")
    except ValueError:
        raise ValueError(f"line {line}, column {name!r}: {row[name]!r} is no number") from None


def _levels(spec: ForecastSpec) -> list[str]:
    return [f"q{level:g}" for level in spec.quantile_levels]


def _lines(forecast: NDArray[np.float32], spec: ForecastSpec) -> Iterator[list[str]]:
    """One line for each step ahead and target; forecast is [horizon, targets, quantiles]."""
    for step, targets in enumerate(forecast.tolist(), start=1):
        for name, quantiles in zip(spec.targets, targets, strict=True):
            yield [str(step), name, *(f"{value:.6g}" for value in quantiles)]


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
    else:
        with Path(path).open(encoding="utf-8", newline="") as file:
            yield file


if __name__ == "__main__":
    sys.exit(main())
