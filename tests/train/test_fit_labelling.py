"""Training a labeller."""

from collections.abc import Sequence

import pytest
import torch

from support import training_tasks
from tidegate.train import Recurrent, Variational
from tidegate.train.data.homographs import generate_homographs
from tidegate.train.data.sentences import ambiguous_words, label_names, vocabulary
from tidegate.train.evaluate.labelling import predict
from tidegate.train.fit import LabellingTask, Optimization, fit
from tidegate.train.labeller import Labeller
from tidegate.train.regularizers import REGULARIZERS, Regularizer, Zoneout


@pytest.mark.parametrize(("bidirectional", "low", "high"), [(False, 0.4, 0.6), (True, 0.98, 1.0)])
def test_only_a_second_direction_tells_homographs_apart(
    bidirectional: bool, low: float, high: float
) -> None:
    torch.manual_seed(0)
    sentences = generate_homographs(2000)
    model = Labeller(
        Recurrent("lstm", 24, 24, bidirectional=bidirectional, regularizers=[Variational(0.1)]),
        words=vocabulary(sentences.train),
        label_names=label_names(sentences.train),
        embedding_size=24,
    )
    fit(LabellingTask(model, sentences, 1024), Optimization(learning_rate=0.02), epochs=4)
    answers = predict(model, sentences.test)
    assert low <= answers.accuracy_on(ambiguous_words(sentences.train)) <= high
    # All other words are plain.
    assert answers.accuracy > 0.9


def test_a_labellers_sentences_are_encoded_once_for_all_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = training_tasks.labelling()
    seen: list[tuple[str, ...]] = []
    encode = Labeller.encode

    def remember(self: Labeller, sentence: Sequence[str]) -> list[int]:
        seen.append(tuple(sentence))
        return encode(self, sentence)

    monkeypatch.setattr(Labeller, "encode", remember)
    fit(task, Optimization(learning_rate=0.01), epochs=3)
    parts = (*task.sentences.train, *task.sentences.validation)
    assert sorted(seen) == sorted(one.words for one in parts)


@pytest.mark.parametrize("method", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_labeller_learns_under_any_regularizer(method: type[Regularizer]) -> None:
    torch.manual_seed(0)
    sentences = generate_homographs(200)
    rate = {"cell": 0.2, "hidden": 0.1} if method is Zoneout else {"p": 0.2}
    regularizers = [method(**rate)]
    model = Labeller(
        Recurrent("lstm", 12, 12, bidirectional=True, regularizers=regularizers),
        words=vocabulary(sentences.train),
        label_names=label_names(sentences.train),
        embedding_size=12,
    )
    task = LabellingTask(model, sentences, 512)
    model.train()
    first, again = (next(task.losses(1)) for _ in range(2))
    assert not first.equal(again), "there are no masks"
    fitted = fit(task, Optimization(learning_rate=0.03), epochs=4)
    losses = [one.metrics["train_loss"] for one in fitted.epochs]
    assert losses == sorted(losses, reverse=True)
    assert fitted.best.metrics["validation_accuracy"] > 0.8
