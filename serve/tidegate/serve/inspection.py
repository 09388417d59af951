"""`tidegate-serve inspect`: what an ONNX file says about itself, as a table."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from tidegate.serve.operators import check_contract, count_operators
from tidegate.serve.session import Session
from tidegate.serve.spec import check_spec, read_spec, spec_digest
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WIDTH = 14


def run(arguments: Sequence[str]) -> int:
    """Prints the table, or the spec as JSON.

    Raises:
        LoadError: The file is no export, or contradicts itself.
        OSError: The file cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="tidegate-serve inspect", description="Prints what an ONNX file says about itself."
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print the ModelSpec as JSON")
    options = parser.parse_args(arguments)
    content = options.file.read_bytes()
    session = Session(content, "cpu")
    spec = read_spec(session.spec_text)
    check_spec(spec, session.inputs, session.outputs)
    check_contract(spec, count_operators(content))
    if options.json:
        print(json_format.MessageToJson(spec))
        return 0
    print(f"{'file':{_WIDTH}}{options.file}")
    print(f"{'size':{_WIDTH}}{len(content) / 1024:.1f} KiB")
    print(f"{'sha256':{_WIDTH}}{hashlib.sha256(content).hexdigest()}")
    print(f"{'spec':{_WIDTH}}version {spec.spec_version}, {spec_digest(session.spec_text).hex()}")
    for name, text in describe(spec):
        print(f"{name:{_WIDTH}}{_printable(text)}")
    counts = sorted(count_operators(content).items())
    print(f"{'operators':{_WIDTH}}{', '.join(f'{name} {count}' for name, count in counts)}")
    for provider, types in session.operators.items():
        print(f"{'runs':{_WIDTH}}{', '.join(sorted(types))} on {provider}")
    return 0


def describe(spec: pb.ModelSpec) -> Iterator[tuple[str, str]]:
    """The rows of the table, each a name and a text."""
    direction = _lower(pb.Direction.Name(spec.direction), "DIRECTION_")
    yield "task", f"{_lower(pb.Task.Name(spec.task), 'TASK_')}, {direction}"
    yield "network", _network(spec.network)
    yield "weights", spec.weights or "float32"
    for one in spec.regularizers:
        yield "regularizer", f"{_regularizer(one)}: {_contract(one.contract)}"
    yield "contract", _contract(spec.contract)
    following = {state.input: state for state in spec.states}
    for tensor in spec.inputs:
        state = following.get(tensor.name)
        note = f", then {state.output}; first {state.initial_value:g}" if state else ""
        yield "input", _tensor(tensor) + note
    for tensor in spec.outputs:
        yield "output", _tensor(tensor)
    if spec.HasField("forecast"):
        yield from _forecast(spec.forecast)
    if spec.HasField("labelling"):
        yield from _labelling(spec.labelling)
    if spec.HasField("language_model"):
        yield from _language_model(spec.language_model)
    if spec.metrics:
        yield (
            "metrics",
            ", ".join(f"{name} {spec.metrics[name]:.6g}" for name in sorted(spec.metrics)),
        )
    yield "parity", _parity(spec.parity)
    yield from _provenance(spec.provenance)


def _network(network: pb.Network) -> str:
    cell = pb.Cell.Name(network.cell).removeprefix("CELL_")
    if network.cell == pb.CELL_GRU:
        cell += " (reset after)" if network.reset_after else " (reset before)"
    merge = f", directions merged by {network.merge}" if network.merge else ""
    return f"{network.num_layers} layers of {cell}, {network.hidden_size} units{merge}"


def _regularizer(one: pb.RegularizerSpec) -> str:
    settings = [f"{name}={one.rates[name]:g}" for name in sorted(one.rates)]
    settings += [f"{name}={one.options[name]}" for name in sorted(one.options)]
    return f"{one.name}({', '.join(settings)})"


def _tensor(tensor: pb.TensorSpec) -> str:
    axes = [
        name if size < 0 else f"{name}={size}"
        for name, size in zip(tensor.axes, tensor.shape, strict=True)
    ]
    return f"{tensor.name} {tensor.dtype} [{', '.join(axes)}]"


def _forecast(forecast: pb.ForecastSpec) -> Iterator[tuple[str, str]]:
    scaler = forecast.scaler
    for index, feature in enumerate(forecast.features):
        text = feature.name + (f" in {feature.unit}" if feature.unit else "")
        if index < min(len(scaler.center), len(scaler.scale), len(scaler.differenced)):
            read = "its change" if scaler.differenced[index] else "its value"
            text += f": {read} is read, {scaler.center[index]:.6g} +- {scaler.scale[index]:.6g}"
        yield "feature", text + (", NaN where missing" if feature.allow_missing else "")
    levels = ", ".join(f"{level:g}" for level in forecast.quantile_levels)
    steps = f"1 to {forecast.horizon} steps of {forecast.frequency} ahead"
    yield "forecast", f"{', '.join(forecast.targets)}, {steps}, quantiles {levels}"


def _labelling(labelling: pb.LabellingSpec) -> Iterator[tuple[str, str]]:
    if labelling.label_names:
        decoder = " (CRF)" if labelling.decoder == pb.DECODER_CRF else ""
        yield "labels", ", ".join(labelling.label_names) + decoder
    if labelling.sentence_label_names:
        pooling = _lower(pb.Pooling.Name(labelling.pooling), "POOLING_")
        names = ", ".join(labelling.sentence_label_names)
        yield "sentence labels", f"{names} ({pooling} pooling)"
    case = "lower case" if labelling.lower_case else "case kept"
    digest = f", sha256 {labelling.vocabulary_digest}" if labelling.vocabulary_digest else ""
    yield "vocabulary", f"{len(labelling.words)} words, {case}{digest}"
    if labelling.HasField("characters"):
        characters = labelling.characters
        form = f", {characters.normalization}" if characters.normalization else ""
        most = f"at most {characters.max_characters} of a word"
        yield "characters", f"{len(characters.characters)}, {most}{form}"


def _language_model(language: pb.LanguageModelSpec) -> Iterator[tuple[str, str]]:
    unit = _lower(pb.TextUnit.Name(language.unit), "TEXT_UNIT_")
    tied = "tied" if language.tied else "not tied"
    digest = f", sha256 {language.vocabulary_digest}" if language.vocabulary_digest else ""
    yield "vocabulary", f"{len(language.vocabulary)} tokens, each a {unit}, {tied}{digest}"


def _parity(parity: pb.Parity) -> str:
    where = f" ({parity.largest_at})" if parity.largest_at else ""
    return (
        f"{parity.max_absolute_error:.1e} absolute, {parity.max_relative_error:.1e} relative, in "
        f"{parity.cases} cases{where}"
    )


def _provenance(provenance: pb.Provenance) -> Iterator[tuple[str, str]]:
    rows = (
        ("data", provenance.data_digest),
        ("git commit", provenance.git_commit),
        ("MLflow run", provenance.mlflow_run_id),
        ("written by", _listed(provenance.versions.items())),
    )
    return ((name, text) for name, text in rows if text)


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(pairs))


def _contract(contract: pb.InferenceContract.ValueType) -> str:
    return _lower(pb.InferenceContract.Name(contract), "INFERENCE_CONTRACT_")


def _lower(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _printable(text: str) -> str:
    """Names come from the file; a terminal obeys control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
