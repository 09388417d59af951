"""A language model is the same in PyTorch and in its file, however a text is cut."""

import functools
import itertools
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.blocked import run_code_without
from support.models import Arrays, Session
from support.server import running_server
from tidegate.client import Client
from tidegate.client.errors import ClientError
from tidegate.serve.errors import LoadError
from tidegate.serve.inspection import describe
from tidegate.serve.spec import Tensor, check_spec
from tidegate.train import LanguageModel, Recurrent, WeightDrop, Zoneout, awd, export_onnx
from tidegate.train.evaluate.language import score_text
from tidegate.train.export import builders, check_file
from tidegate.train.export.contract import census
from tidegate.train.publish import publish
from tidegate.train.regularizers import Regularizer
from tidegate.v1 import model_spec_pb2 as pb

VOCABULARY = ("<unk>", "<eos>", "the", "tide", "comes", "in", "goes", "out")
TIME = 24
KINDS = ("lstm", "gru", "rnn", "zoned lstm")


def language_model(
    cell: str = "lstm",
    *,
    embedding: int = 5,
    tied: bool = True,
    layers: int = 2,
    regularizers: tuple[Regularizer, ...] = (),
) -> LanguageModel:
    torch.manual_seed(4)
    if cell == "zoned lstm":
        cell, regularizers = "lstm", (Zoneout(0.3, 0.2),)
    network = Recurrent(cell, embedding, 7, layers, regularizers=regularizers)  # type: ignore[arg-type]  # of KINDS
    model = LanguageModel(network, vocabulary=VOCABULARY, embedding_size=embedding, tied=tied)
    with torch.no_grad():
        model.embedding.weight.mul_(10)
        model.bias.uniform_(-1, 1)
    return model.eval()


class File(Session):
    """A session with its spec, and the file gone from the disk."""

    def __init__(self, model: LanguageModel) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.spec = export_onnx(model, Path(folder) / "model.onnx")
            super().__init__(Path(folder) / "model.onnx")

    def read(self, tokens: np.ndarray, states: Arrays | None = None) -> tuple[np.ndarray, Arrays]:
        inputs: Arrays = {
            "tokens": tokens,
            "lengths": np.full(len(tokens), tokens.shape[1], np.int32),
        }
        for state in self.spec.states:
            shape = [len(tokens) if size == -1 else size for size in state.shape]
            inputs[state.input] = np.zeros(shape, np.float32)
        outputs = self.run(inputs | (states or {}))
        after = {state.input: outputs[state.output] for state in self.spec.states}
        return outputs["log_probabilities"], after


@functools.cache
def file(kind: str) -> File:
    return File(language_model(kind))


def text(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(VOCABULARY), (batch, TIME))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, TIME - 1), max_size=TIME, unique=True))
def test_a_text_cut_anywhere_is_the_text_in_one_call(kind: str, cuts: list[int]) -> None:
    whole, ended = file(kind).read(text(2))
    states: Arrays | None = None
    parts = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), TIME]):
        part, states = file(kind).read(text(2)[:, start:stop], states)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-6, atol=2e-6)
    assert states is not None
    for name, state in ended.items():
        np.testing.assert_allclose(states[name], state, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_and_depend_on_no_other_row(kind: str) -> None:
    together, _ = file(kind).read(text(5))
    np.testing.assert_allclose(np.exp(together).sum(axis=-1), 1.0, atol=1e-5)
    for row in range(5):
        alone, _ = file(kind).read(text(5)[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-6, atol=1e-6)


def test_the_file_alone_gives_the_perplexity_that_the_trainer_reports() -> None:
    model = language_model()
    ids = np.random.default_rng(3).integers(0, len(VOCABULARY), 300)
    reported = score_text(model, ids, ids).metrics()["perplexity"]
    log_probabilities, _ = file("lstm").read(ids[None, :-1])
    scores = np.take_along_axis(log_probabilities[0], ids[1:, None], axis=1)
    assert np.exp(-scores.mean()) == pytest.approx(reported, rel=1e-5)


GRID = [
    (cell, tied, embedding, methods)
    for cell, tied, embedding in itertools.product(("lstm", "gru", "rnn"), (True, False), (5, 7))
    for methods in ((), awd(2, words=True), (Zoneout(0.2, 0.3),), (WeightDrop(0.5),))
]


@pytest.mark.parametrize(("cell", "tied", "embedding", "methods"), GRID)
def test_every_kind_exports_with_its_operators_and_passes_the_check_again(
    cell: str,
    tied: bool,
    embedding: int,
    methods: tuple[Regularizer, ...],
    tmp_path: Path,
) -> None:
    model = language_model(cell, tied=tied, embedding=embedding, regularizers=methods)
    spec = export_onnx(model, tmp_path / "model.onnx")
    assert spec.task == pb.TASK_LANGUAGE_MODELLING
    assert list(spec.language_model.vocabulary) == list(VOCABULARY)
    found = census(onnx.load(tmp_path / "model.onnx"))
    zoned = any(isinstance(one, Zoneout) for one in methods)
    assert found[cell.upper()] == (0 if zoned else 2)
    assert found["Scan"] == (2 if zoned else 0)
    assert not {"Dropout", "Bernoulli"} & set(found)
    assert check_file(tmp_path / "model.onnx").parity.cases == 24


@pytest.mark.parametrize("embedding", [5, 7])
def test_a_tied_table_is_in_the_file_once(embedding: int) -> None:
    model = language_model(embedding=embedding)
    graph = builders.build_graph(model).model("m", {}).graph
    values = sum(int(np.prod(one.dims)) for one in graph.initializer)
    assert values < sum(weight.numel() for weight in model.parameters()) + 20


def test_a_damaged_softmax_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = language_model()
    export_onnx(model, path)
    damaged = onnx.load(path)
    table = next(one for one in damaged.graph.initializer if one.name == "head_B")
    values = onnx.numpy_helper.to_array(table) + np.float32(0.01) * np.arange(len(VOCABULARY))
    table.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), "head_B"))
    onnx.save(damaged, path)
    assert check_file(path)
    with pytest.raises(ValueError, match="output 'log_probabilities' differs"):
        check_file(path, model)


def test_the_server_lists_it_and_refuses_its_calls_with_the_reason(tmp_path: Path) -> None:
    export_onnx(language_model(), tmp_path / "out.onnx")
    publish(tmp_path / "out.onnx", tmp_path / "models", "text", "1")
    with running_server(tmp_path / "models") as target, Client(target) as client:
        assert [one.name for one in client.list_models()] == ["text"]
        with pytest.raises(ClientError, match="is a language model, and this server has no call"):
            client.annotate("text", [["the", "tide"]])
        with pytest.raises(ClientError, match="run its file with ONNX Runtime"):
            client.forecast("text", [np.zeros((3, 1), np.float32)])


def _spec(change: Any) -> tuple[pb.ModelSpec, list[Tensor], list[Tensor]]:
    spec = pb.ModelSpec()
    spec.CopyFrom(file("lstm").spec)
    change(spec)
    inputs, outputs = (
        [
            Tensor(one.name, one.dtype, tuple(None if axis < 0 else axis for axis in one.shape))
            for one in tensors
        ]
        for tensors in (spec.inputs, spec.outputs)
    )
    return spec, inputs, outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: setattr(s, "direction", pb.DIRECTION_BIDIRECTIONAL), "must be causal"),
        (lambda s: s.language_model.ClearField("vocabulary"), "needs the id 0"),
        (lambda s: s.language_model.vocabulary.pop(), "for 7 names"),
    ],
)
def test_the_server_refuses_a_spec_that_contradicts_itself(change: Any, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        check_spec(*_spec(change))


def test_the_table_says_what_a_token_is() -> None:
    rows = dict(describe(file("lstm").spec))
    assert rows["task"] == "language_modelling, causal"
    assert rows["vocabulary"].startswith("8 tokens, each a word, tied, sha256 ")


PAGE = (Path(__file__).parents[2] / "docs" / "language-models.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"<!-- run: language-model -->\n```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_program_of_the_page_writes_a_text_with_numpy_and_onnxruntime_alone(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    letters = ("<unk>", "\n", *"tide")
    model = LanguageModel(Recurrent("gru", 4, 5), vocabulary=letters, embedding_size=4)
    with torch.no_grad():
        model.bias[0] = -100.0
    export_onnx(model, tmp_path / "model.onnx")

    done = run_code_without(("tidegate", "torch", "onnx", "mlflow", "google"), PROGRAM, tmp_path)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 301
    assert set(done.stdout) == set("tide\n")
