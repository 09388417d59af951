"""Pretrained vectors: files of GloVe and fastText, and embeddings that begin as them."""

import gzip
import logging
from pathlib import Path

import pytest
from torch import nn

from tidegate.train import Labeller, LanguageModel, checkpoint, job
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.vectors import read_vectors

GLOVE = "the 0.1 0.2\ngate -1 2e-1\n. . . 3 4\n"
WORDS = ("<pad>", "gate", "tide", ". . .")


def write(folder: Path, text: str, name: str = "vectors.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("end", ["\n", " \n"])
def test_only_the_words_wanted_are_read_with_a_first_line_or_without(
    header: str, end: str, tmp_path: Path
) -> None:
    path = write(tmp_path, (header + GLOVE).replace("\n", end))
    vectors = read_vectors(path, WORDS, 2)
    assert vectors.found.tolist() == [False, True, False, True]
    assert vectors.values[vectors.found].tolist() == [
        [-1.0, pytest.approx(0.2)],
        [3.0, 4.0],
    ]


def test_a_packed_file_in_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vectors.gz"
    path.write_bytes(gzip.compress("caf\u00e9 1 2\n".encode("latin-1")))
    assert read_vectors(path, ["caf\u00e9"], 2, encoding="latin-1").found.all()
    with pytest.raises(ValueError, match="line 1: byte 0xe9 at column 4 is not utf-8"):
        read_vectors(path, ["caf\u00e9"], 2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("the 1 2 3\n", "line 1: vectors of 3 numbers and embedding_size=2; set model.embedding"),
        ("9 300\nthe 1 2\n", "line 1: vectors of 300 numbers and embedding_size=2"),
        ("the 1 2\ntide 1\n", "line 2: 1 numbers after the word, wanted 2"),
        ("the 1 2\ntide 1 x\n", "line 2: no vector: could not convert string to float: 'x'"),
        ("the 1 2\ntide 1 nan\n", "line 2: a number is not finite"),
        ("tide 1 2\nthe 1 2\ntide 3 4\n", "line 3: 'tide' is in line 1 too; keep one"),
        ("3 2\ntide 1 2\n", "has 1 words and its first line says 3; it is not whole"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=error):
        read_vectors(write(tmp_path, text), ["tide"], 2)


def test_words_that_nobody_wants_may_be_there_twice(tmp_path: Path) -> None:
    assert read_vectors(write(tmp_path, "of 1 2\nof 3 4\ntide 5 6\n"), ["tide"], 2).found.all()


def config(folder: Path, task: str, **model: object) -> Config:
    name = "lines" if task == "labelling" else "text"
    text = "good the tide comes in\nbad the tide goes out\n" * 8
    for part in ("a", "b", "c"):
        write(folder, text, part)
    return Config.model_validate(
        {
            "name": "tide",
            "task": task,
            "dataset": {"name": name, "path": folder, "files": ["a", "b", "c"]},
            "language": {"tied": False},
            "model": {"hidden_size": 5, "embedding_size": 2, "num_layers": 1} | model,
            "training": {"epochs": 2, "learning_rate": 0.05, "lanes": 2, "bptt": 9},
        }
    )


def row(model: nn.Module, word: str) -> list[float]:
    assert isinstance(model, Labeller | LanguageModel)
    return model.embedding.weight[model.encode([word])[0]].tolist()


@pytest.mark.parametrize("task", ["labelling", "language_modelling"])
@pytest.mark.parametrize("freeze", [True, False])
def test_embeddings_begin_as_the_vectors_and_stay_so_if_frozen(
    task: str,
    freeze: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write(tmp_path, "tide 3 4\nsea 5 6\n")
    settings = config(tmp_path, task, vectors=path, freeze_vectors=freeze)
    data = load_data(settings)
    model = build_model(settings, data)
    before = row(model, "comes")
    with caplog.at_level(logging.INFO, "tidegate"):
        coverage = job.begin_with_vectors(settings, model)
    assert row(model, "tide") == [3.0, 4.0]
    assert row(model, "comes") == before
    assert isinstance(model, Labeller | LanguageModel)
    assert coverage == pytest.approx(1 / model.embedding.num_embeddings)
    assert "of the vocabulary" in caplog.text
    job.train(settings, model, data)
    assert (row(model, "tide") == [3.0, 4.0]) is freeze
    path.unlink()
    loaded = checkpoint.load(checkpoint.save(tmp_path / "model.pt", settings, model))
    assert row(loaded.model, "tide") == row(model, "tide")


def test_a_file_with_none_of_the_words_is_refused(tmp_path: Path) -> None:
    settings = config(tmp_path, "labelling", vectors=write(tmp_path, "Tide 3 4\n"))
    with pytest.raises(ValueError, match=r"has none of the \d+ words of the training part"):
        job.begin_with_vectors(settings, build_model(settings, load_data(settings)))


def test_vectors_where_they_have_no_meaning_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GLOVE)
    with pytest.raises(ValueError, match="freeze_vectors = true without vectors"):
        config(tmp_path, "labelling", freeze_vectors=True)
    settings = config(tmp_path, "language_modelling", vectors=path).model_dump()
    settings["model"]["freeze_vectors"] = settings["language"]["tied"] = True
    with pytest.raises(ValueError, match="would freeze the softmax"):
        Config.model_validate(settings)
    numbers = {"name": "co2", "task": "forecasting", "dataset": {"name": "co2"}}
    with pytest.raises(ValueError, match="a forecaster reads numbers"):
        Config.model_validate(numbers | {"model": {"vectors": path}})
