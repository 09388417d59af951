"""What the server refuses to load, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from google.protobuf import json_format

from support import onnx_models
from tidegate.serve.errors import LoadError, NotFoundError
from tidegate.serve.model import load_model
from tidegate.serve.repository import Repository
from tidegate.serve.session import providers
from tidegate.serve.settings import Settings
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx


def load(model: onnx.ModelProto, folder: Path) -> None:
    path = onnx_models.save(model, folder, "m")
    load_model("m", "1", path, Settings(provider="cpu"))


def changed(change: Callable[[pb.ModelSpec], object]) -> onnx.ModelProto:
    model = onnx_models.forecaster(differenced=True)
    spec = onnx_models.spec_of(model)
    change(spec)
    onnx_models.set_spec(model, json_format.MessageToJson(spec))
    return model


def test_a_file_without_a_spec_is_refused(tmp_path: Path) -> None:
    model = onnx_models.forecaster()
    del model.metadata_props[:]
    with pytest.raises(LoadError, match=r"model\.onnx: the ONNX file has no metadata 'tidegate"):
        load(model, tmp_path)


def test_a_spec_that_is_not_json_is_refused(tmp_path: Path) -> None:
    model = onnx_models.forecaster()
    onnx_models.set_spec(model, "{")
    with pytest.raises(LoadError, match="is not a ModelSpec"):
        load(model, tmp_path)


def test_fields_of_a_newer_writer_are_ignored_in_a_known_version(tmp_path: Path) -> None:
    model = onnx_models.forecaster()
    text = json_format.MessageToJson(onnx_models.spec_of(model))
    onnx_models.set_spec(model, text.replace("{", '{"newField": 1,', 1))
    load(model, tmp_path)


CHANGES: list[tuple[Callable[[pb.ModelSpec], object], str]] = [
    (lambda s: setattr(s, "spec_version", 2), "spec_version 2, this server reads up to 1: update"),
    (lambda s: setattr(s, "spec_version", 0), "spec_version is missing"),
    (lambda s: setattr(s, "task", pb.TASK_UNSPECIFIED), "spec.task is 0"),
    (lambda s: s.ClearField("direction"), "spec.direction is missing"),
    (
        lambda s: setattr(s, "direction", pb.DIRECTION_BIDIRECTIONAL),
        "a forecasting model must be causal",
    ),
    (lambda s: setattr(s.inputs[0], "name", "y"), "the spec declares inputs"),
    (lambda s: s.outputs.pop(), "the spec declares outputs"),
    (lambda s: setattr(s.inputs[1], "dtype", "int64"), "'lengths' is declared int64, the graph"),
    (lambda s: s.inputs[0].shape.pop(), "'x' is declared with rank 2, the graph has rank 3"),
    (lambda s: s.inputs[0].axes.pop(), "'x' has 2 names for 3 axes"),
    (lambda s: s.states.pop(), "a model of TASK_FORECASTING needs inputs"),
    (lambda s: setattr(s.states[0], "output", "quantiles"), "state output 'quantiles' has shape"),
    (lambda s: setattr(s.states[0], "output", "nope"), "state output 'nope' is not a declared"),
    (lambda s: s.states[0].shape.pop(), r"it must be \[layers, -1, width\]"),
    (lambda s: setattr(s.forecast, "horizon", 5), "the forecast needs"),
    (lambda s: s.forecast.features.pop(), "for 2 features"),
    (lambda s: s.inputs[2].shape.__setitem__(2, 17), r"is declared \[2, -1, 17\], the graph has"),
]


@pytest.mark.parametrize(("change", "text"), CHANGES, ids=[text for _, text in CHANGES])
def test_a_spec_that_contradicts_the_graph_is_refused(
    tmp_path: Path, change: Callable[[pb.ModelSpec], object], text: str
) -> None:
    with pytest.raises(LoadError, match=text):
        load(changed(change), tmp_path)


def test_a_labeller_needs_names_and_words(tmp_path: Path) -> None:
    fields: tuple[Literal["label_names", "words"], ...] = ("label_names", "words")
    for field, text in zip(fields, ("neither label_names nor", "ids 0"), strict=True):
        model = onnx_models.labeller()
        spec = onnx_models.spec_of(model)
        spec.labelling.ClearField(field)
        onnx_models.set_spec(model, json_format.MessageToJson(spec))
        with pytest.raises(LoadError, match=text):
            load(model, tmp_path / field)


CHARACTER_CHANGES: list[tuple[Callable[[pb.ModelSpec], object], str]] = [
    (lambda s: s.labelling.ClearField("characters"), "a model of TASK_LABELLING needs inputs"),
    (lambda s: s.labelling.characters.ClearField("characters"), "characters needs ids 0"),
    (lambda s: setattr(s.labelling.characters, "max_characters", 0), "it must be 1 to 1024"),
    (lambda s: setattr(s.labelling.characters, "max_characters", 1025), "it must be 1 to 1024"),
    (lambda s: setattr(s.labelling.characters, "normalization", "nfd"), "normalization is 'nfd'"),
]


@pytest.mark.parametrize(("change", "text"), CHARACTER_CHANGES, ids=range(5))
def test_characters_that_no_word_could_be_read_by_are_refused(
    tmp_path: Path, change: Callable[[pb.ModelSpec], object], text: str
) -> None:
    model = onnx_models.labeller(characters=True)
    spec = onnx_models.spec_of(model)
    change(spec)
    onnx_models.set_spec(model, json_format.MessageToJson(spec))
    with pytest.raises(LoadError, match=text):
        load(model, tmp_path)


def test_a_causal_model_that_looks_ahead_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"forecast at step 0 differs by .*; it looks ahead, or"):
        load(onnx_models.forecaster(looks_ahead=True), tmp_path)


def test_states_that_are_paired_wrongly_are_found_out(tmp_path: Path) -> None:
    model = onnx_models.forecaster("lstm")
    spec = onnx_models.spec_of(model)
    h, c = spec.states
    h.output, c.output = c.output, h.output
    onnx_models.set_spec(model, json_format.MessageToJson(spec))
    with pytest.raises(LoadError, match="forecast at step 1 differs by"):
        load(model, tmp_path)


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a model")
    with pytest.raises(LoadError, match="ONNX Runtime cannot load the file"):
        load_model("m", "1", path, Settings(provider="cpu"))


def test_cuda_that_does_not_work_is_an_error_and_never_a_silent_cpu(models: Path) -> None:
    path = models / "gru" / "1" / "model.onnx"
    automatic = load_model("gru", "1", path, Settings(provider="auto"))
    if automatic.session.provider == "CUDAExecutionProvider":
        pytest.skip("this machine has a working CUDA device")
    with pytest.raises(LoadError, match=r"provider cuda was asked for, .* use --provider cpu"):
        load_model("gru", "1", path, Settings(provider="cuda"))


def test_tf32_is_off_unless_asked_for() -> None:
    assert providers(cuda=False, tf32=True) == ["CPUExecutionProvider"]
    for asked, option in ((False, "0"), (True, "1")):
        first, last = providers(cuda=True, tf32=asked)
        assert first == ("CUDAExecutionProvider", {"use_tf32": option})
        assert last == "CPUExecutionProvider"


def test_the_highest_version_is_the_default_by_number(models: Path) -> None:
    repository = Repository(Settings(models=models, provider="cpu"))
    assert repository.get("versions").version == "10"
    assert repository.get("versions", alias="champion").version == "2"
    assert repository.aliases(repository.get("versions", version="2")) == ("champion",)
    with pytest.raises(NotFoundError, match="there is no model 'x'"):
        repository.get("x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[", "is not readable JSON"), ("[]", "must be an object"), ('{"a": "3"}', "version '3'")],
)
def test_aliases_that_are_wrong_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    onnx_models.save(onnx_models.forecaster(), tmp_path, "m")
    (tmp_path / "m" / "aliases.json").write_text(text)
    with pytest.raises(LoadError, match=f"aliases.json.*{reason}"):
        Repository(Settings(models=tmp_path, provider="cpu"))


def test_a_missing_or_empty_models_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"holds no <name>/<version>/model.onnx"):
        Repository(Settings(models=tmp_path))
    with pytest.raises(LoadError, match="does not exist: pass --models"):
        Repository(Settings(models=tmp_path / "no"))
