"""Labels for sentences over a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import onnx_models
from support.server import running_server
from tidegate.client import Annotation, Client
from tidegate.serve.session import Session

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = [
    ["The", "dog", "barks"],
    ["a"],
    ["the", "cat", "that", "sleeps", "barks", "at", "the", "dog"],
    ["<padding>", "zebra"],
]


def test_labels_equal_those_of_the_graph_run_on_each_sentence(client: Client, models: Path) -> None:
    session = Session((models / "labeller" / "1" / "model.onnx").read_bytes())
    for sentence, annotation in zip(SENTENCES, client.annotate("labeller", SENTENCES), strict=True):
        words = list(onnx_models.WORDS)
        # Neither unknown words nor the name of the padding may become padding.
        ids = [words.index(w) if w in words[2:] else 1 for w in map(str.lower, sentence)]
        feeds = {"tokens": np.array([ids]), "lengths": np.array([len(ids)], np.int32)}
        outputs = session.run(feeds)
        labels = outputs["labels"][0]
        assert annotation.labels == [onnx_models.LABELS[label] for label in labels]
        expected = outputs["probabilities"][0, np.arange(len(ids)), labels].tolist()
        assert annotation.probabilities == expected


def test_no_sentences_give_no_annotations(client: Client) -> None:
    assert client.annotate("labeller", []) == []


def test_the_case_of_words_matters_where_the_spec_says_so(tmp_path: Path) -> None:
    for name, lower_case in (("lower", True), ("exact", False)):
        onnx_models.save(onnx_models.labeller(lower_case=lower_case), tmp_path, name)
    with running_server(tmp_path) as target, Client(target) as client:

        def of(model: str, word: str) -> Annotation:
            return client.annotate(model, [[word]])[0]

        assert of("lower", "DOG") == of("lower", "dog")
        assert of("exact", "DOG") == of("exact", "zebra") != of("exact", "dog")


def test_a_causal_labeller_labels_sentences_too(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.labeller(bidirectional=False), tmp_path, "causal")
    with running_server(tmp_path) as target, Client(target) as client:
        whole, start = client.annotate("causal", [["the", "dog", "barks"], ["the"]])
    assert whole.probabilities[:1] == pytest.approx(start.probabilities)


def test_thousands_of_tokens_are_cut_into_runs(models: Path) -> None:
    random = np.random.default_rng(0)
    sentences = [
        [onnx_models.WORDS[i] for i in random.integers(2, 10, n)]
        for n in random.integers(1, 40, 90)
    ]
    with (
        running_server(models, max_batch=16, max_batch_rows=100) as target,
        Client(target) as client,
    ):
        cut = client.annotate("labeller", sentences)
    with running_server(models) as target, Client(target) as client:
        assert cut == client.annotate("labeller", sentences)
