"""A labeller is the same in NumPy, PyTorch, ONNX Runtime and over gRPC."""

import asyncio
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from support import numpy_labeller
from support.executor import HeldExecutor
from support.models import Session, character_labeller, crf_labeller, joint_labeller
from support.server import running_server
from tidegate.client import Client
from tidegate.client.__main__ import main as command
from tidegate.serve.annotate import Annotation, Annotator
from tidegate.serve.encode import Encoder
from tidegate.serve.errors import LoadError
from tidegate.serve.inspection import describe
from tidegate.serve.model import Model, load_model
from tidegate.serve.operators import check_contract, count_operators
from tidegate.serve.runner import Runner
from tidegate.serve.settings import Settings
from tidegate.train import ParityError, Zoneout, export_onnx
from tidegate.train.crf import LinearChainCRF
from tidegate.train.export import labelling
from tidegate.train.export.check import check_file
from tidegate.train.export.crf import Decoded, add_crf
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.labeller import Labeller
from tidegate.train.publish import publish
from tidegate.train.regularizers import Regularizer
from tidegate.v1 import model_spec_pb2 as pb

SENTENCES = [
    ["The", "gate", "opened"],
    ["x"],
    ["", "Gates", "\u00e9t\u00e9", "openopenopen", "the", "<pad>", "gate"],
]


def publish_model(model: Labeller, folder: Path, name: str = "m") -> pb.ModelSpec:
    spec = export_onnx(model, folder / "out.onnx")
    publish(folder / "out.onnx", folder / "models", name, "1")
    return spec


@pytest.mark.parametrize("regularizers", [(), (Zoneout(0.3, 0.2),)], ids=["plain", "zoneout"])
@pytest.mark.parametrize(
    ("cell", "layers", "directions"), [("lstm", 1, 2), ("gru", 2, 2), ("rnn", 1, 1)]
)
def test_characters_are_read_over_grpc_as_numpy_reads_them(
    cell: str, layers: int, directions: int, regularizers: tuple[Regularizer, ...], tmp_path: Path
) -> None:
    model = character_labeller(
        cell,
        character_layers=layers,
        character_directions=directions,
        regularizers=regularizers,
    )
    spec = publish_model(model, tmp_path)
    assert [one.name for one in spec.inputs] == ["tokens", "chars", "lengths"]
    with running_server(tmp_path / "models") as target, Client(target) as client:
        answers = client.annotate("m", SENTENCES)
    for sentence, answer in zip(SENTENCES, answers, strict=True):
        expected = numpy_labeller.softmax(numpy_labeller.logits(model, sentence))
        best = expected.argmax(axis=-1)
        assert answer.labels == [model.label_names[label] for label in best]
        np.testing.assert_allclose(answer.probabilities, expected.max(axis=-1), atol=1e-5)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8), st.sampled_from(["", "NFD"]))
@example(["<PAD>", "<unk>"], "")
def test_training_and_server_give_a_word_the_same_numbers(words: list[str], form: str) -> None:
    model = character_labeller()
    assert model.characters is not None
    model.characters.normalization = form  # type: ignore[assignment]  # of the two that are drawn
    spec = pb.LabellingSpec(
        words=model.words,
        lower_case=True,
        characters=pb.Characters(
            characters=model.characters.characters, max_characters=6, normalization=form
        ),
    )
    rows = np.arange(len(words))
    inputs = Encoder(spec)(words)
    assert inputs["tokens"][rows].tolist() == model.encode(words)
    for found, expected in zip(inputs["chars"][rows], model.encode_characters(words), strict=True):
        assert found[: len(expected)].tolist() == expected
        assert not found[len(expected) :].any()


def test_a_request_of_many_words_is_cut_by_its_characters(tmp_path: Path) -> None:
    model = character_labeller()
    publish_model(model, tmp_path)
    sentences = [["gate"] * length for length in range(1, 30)]
    answers = []
    for rows in (60, 8192):
        with (
            running_server(tmp_path / "models", max_batch_rows=rows) as target,
            Client(target) as client,
        ):
            answers.append(client.annotate("m", sentences))
    assert answers[0] == answers[1]


def test_the_spec_says_how_characters_are_read(tmp_path: Path) -> None:
    characters = export_onnx(character_labeller(), tmp_path / "m.onnx").labelling.characters
    assert characters.characters[:3] == ["<pad>", "<unk>", "a"]
    assert characters.max_characters == 6
    assert (characters.network.cell, characters.network.hidden_size) == (pb.CELL_LSTM, 3)


@pytest.mark.parametrize("labels", [1, 2, 7])
def test_a_crf_labels_over_grpc_as_by_all_sequences(labels: int, tmp_path: Path) -> None:
    model = crf_labeller(labels)
    spec = publish_model(model, tmp_path)
    assert spec.labelling.decoder == pb.DECODER_CRF
    sentences = [["the", "gate", "x", "open"], ["close"], ["gate", "gate"]]
    with running_server(tmp_path / "models") as target, Client(target) as client:
        answers = client.annotate("m", sentences)
    for sentence, answer in zip(sentences, answers, strict=True):
        scores = numpy_labeller.sequence_scores(model, sentence)
        best = max(scores, key=lambda sequence: scores[sequence])
        assert answer.labels == [model.label_names[label] for label in best]
        marginals = numpy_labeller.marginals(scores, labels)
        expected = marginals[np.arange(len(best)), best]
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)


def test_transitions_change_labels_that_a_softmax_would_give(tmp_path: Path) -> None:
    model = crf_labeller()
    export_onnx(model, tmp_path / "m.onnx")
    tokens = np.random.default_rng(0).integers(1, 6, (20, 9))
    outputs = Session(tmp_path / "m.onnx").run(
        {"tokens": tokens, "lengths": np.full(20, 9, np.int32)}
    )
    alone = model(torch.from_numpy(tokens)).words.argmax(dim=-1).numpy()
    assert (outputs["labels"] != alone).any()
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=-1), 1.0, atol=1e-5)


def test_padding_and_batch_mates_change_no_bit_of_a_crf(tmp_path: Path) -> None:
    export_onnx(crf_labeller(), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    tokens = np.random.default_rng(1).integers(1, 6, (5, 12))
    lengths = np.array([12, 1, 5, 7, 12], np.int32)
    together = session.run({"tokens": tokens, "lengths": lengths})
    for row, length in enumerate(lengths):
        alone = session.run({"tokens": tokens[row : row + 1, :length], "lengths": lengths[[row]]})
        for name, value in alone.items():
            assert together[name][row, :length].tobytes() == value[0].tobytes()


def test_a_crf_of_a_graph_that_decodes_wrongly_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = crf_labeller()
    monkeypatch.setattr(labelling, "add_crf", _without_transitions)
    with pytest.raises(ParityError, match=r"output '\w+' differs"):
        export_onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def _without_transitions(
    graph: GraphBuilder, crf: LinearChainCRF, logits: str, lengths: str
) -> Decoded:
    wrong = copy.deepcopy(crf)
    torch.nn.init.zeros_(wrong.transitions)
    return add_crf(graph, wrong, logits, lengths)


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
@pytest.mark.parametrize("decoder", ["softmax", "crf", None])
def test_a_sentence_has_its_label_over_grpc_that_numpy_gives_it(
    decoder: str | None, pooling: str, tmp_path: Path
) -> None:
    arguments = {"decoder": decoder} if decoder else {"words": False}
    model = joint_labeller(pooling=pooling, **arguments)
    spec = publish_model(model, tmp_path)
    assert list(spec.labelling.sentence_label_names) == ["order", "remark"]
    sentences = [["the", "gate", "x"], ["open"], ["close", "the", "gate", "the", "open"]]
    with running_server(tmp_path / "models") as target, Client(target) as client:
        answers = client.annotate("m", sentences)
    for sentence, answer in zip(sentences, answers, strict=True):
        expected = numpy_labeller.softmax(numpy_labeller.sentence_logits(model, sentence))
        assert answer.sentence_label == model.sentence_label_names[expected.argmax()]
        assert answer.sentence_probability == pytest.approx(expected.max(), abs=1e-5)
        assert len(answer.labels) == len(answer.probabilities) == len(sentence) * bool(decoder)


def test_the_command_prints_the_label_of_a_sentence_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_model(joint_labeller(), tmp_path, "joint")
    publish_model(joint_labeller(words=False), tmp_path, "whole")
    text = tmp_path / "text"
    text.write_text("open the gate\n")
    with running_server(tmp_path / "models") as target:
        for name in ("joint", "whole"):
            assert command(["--target", target, "annotate", name, str(text)]) == 0
    joint, whole = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert joint[0] in ("order", "remark")
    assert [word.split("/")[0] for word in joint[1].split()] == ["open", "the", "gate"]
    assert whole[1] == "open the gate"


@pytest.mark.parametrize(
    "model",
    [
        character_labeller(),
        character_labeller("gru", character_layers=2, regularizers=[Zoneout(0.3, 0.2)]),
        character_labeller("gru", character_directions=1),
        crf_labeller(),
        joint_labeller(decoder="crf", pooling="attention"),
        joint_labeller(words=False),
        joint_labeller(words=False, pooling="mean"),
    ],
    ids=["characters", "zoneout", "one direction", "crf", "joint", "sentences", "mean"],
)
def test_a_file_is_checked_against_the_model_that_it_holds(model: Labeller, tmp_path: Path) -> None:
    spec = export_onnx(model, tmp_path / "m.onnx")
    checked = check_file(tmp_path / "m.onnx")
    # Rates of zoneout are float32 in the file, as all of it.
    expected = pytest.approx(spec.parity.max_absolute_error, rel=0.01)
    assert checked.parity.max_absolute_error == expected
    check_file(tmp_path / "m.onnx", model)


def test_a_file_of_other_transitions_is_not_that_of_the_model(tmp_path: Path) -> None:
    export_onnx(crf_labeller(), tmp_path / "m.onnx")
    other = crf_labeller()
    assert other.crf is not None
    torch.nn.init.zeros_(other.crf.transitions)
    with pytest.raises(ParityError, match="differs between PyTorch and ONNX Runtime"):
        check_file(tmp_path / "m.onnx", other)


@pytest.mark.parametrize("operator", ["LSTM", "Scan"])
def test_the_server_counts_the_operators_of_characters_and_crf(
    operator: str, tmp_path: Path
) -> None:
    model = character_labeller(decoder="crf")
    spec = export_onnx(model, tmp_path / "m.onnx")
    operators = count_operators((tmp_path / "m.onnx").read_bytes())
    check_contract(spec, operators)
    operators[operator] += 1
    with pytest.raises(LoadError, match=f"{operator} operators; the contract identity of 2 .* and"):
        check_contract(spec, operators)
    spec.labelling.characters.contract = pb.INFERENCE_CONTRACT_EXPECTATION
    with pytest.raises(LoadError, match=r"spec.labelling.characters.contract is expectation"):
        check_contract(spec, operators)


def test_a_labeller_is_shown_with_all_that_it_reads_and_says(tmp_path: Path) -> None:
    spec = export_onnx(character_labeller(decoder="crf"), tmp_path / "m.onnx")
    shown = dict(describe(spec))
    assert shown["labels"] == "NOUN, VERB, DET (CRF)"
    assert shown["characters"] == "14, at most 6 of a word"
    shown = dict(describe(export_onnx(joint_labeller(words=False), tmp_path / "m.onnx")))
    assert shown["sentence labels"] == "order, remark (max pooling)"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("labeller") / "m.onnx"
    export_onnx(character_labeller(), path)
    return load_model("m", "1", path, Settings(provider="cpu"))


@given(
    requests=st.lists(
        st.lists(st.lists(st.text("acdeg\u00e9", max_size=7), min_size=1, max_size=9), max_size=4),
        min_size=1,
        max_size=4,
    ),
    max_rows=st.integers(1, 90),
)
@hypothesis_settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_words_of_any_length_share_runs_and_change_no_bit(
    loaded: Model, requests: list[list[list[str]]], max_rows: int
) -> None:
    async def annotate(settings: Settings, *wanted: list[list[str]]) -> list[list[Annotation]]:
        executor = HeldExecutor()
        executor.release_at_once = True
        annotator = Annotator(loaded, Runner(settings, executor), settings)
        return await asyncio.gather(*(annotator.annotate(one) for one in wanted))

    async def check() -> None:
        together = await annotate(Settings(max_batch_rows=max_rows), *requests)
        for sentences, answers in zip(requests, together, strict=True):
            for sentence, answer in zip(sentences, answers, strict=True):
                assert await annotate(Settings(), [sentence]) == [[answer]]

    asyncio.run(check())


def test_a_word_counts_as_the_characters_that_its_model_reads(loaded: Model) -> None:
    assert loaded.steps_per_row == 6
