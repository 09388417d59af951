"""The labeller."""

import numpy as np
import pytest
import torch

from support import numpy_labeller
from support.models import joint_labeller, small_labeller
from tidegate.train import Labeller, Recurrent
from tidegate.train.data.buckets import Encoded, pad


def test_words_are_looked_up_in_lower_case_and_unknown_ones_are_one() -> None:
    assert small_labeller().encode(["The", "GATE", "gates"]) == [4, 5, 1]


def test_a_sentence_is_labelled_alone_as_in_a_padded_batch() -> None:
    model = small_labeller()
    tokens = torch.tensor([[2, 3, 0, 0], [4, 5, 2, 1]])

    together = model(tokens, torch.tensor([2, 4])).words
    alone = model(tokens[:1, :2]).words

    torch.testing.assert_close(together[:1, :2], alone)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_two_directions_see_the_words_to_the_right(bidirectional: bool) -> None:
    model = small_labeller(bidirectional=bidirectional)
    before, after = model(torch.tensor([[2, 3, 4], [2, 3, 5]])).words

    sees_the_future = not torch.equal(before[:2], after[:2])
    assert sees_the_future == bidirectional


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"words": ("a", "b")}, r"words begins with \['a', 'b'\]; give \['<pad>', '<unk>'\] first"),
        ({"words": ("<pad>", "<unk>", "a", "a")}, "each word once"),
        ({"label_names": ()}, r"label_names=\[\] and sentence_label_names=\[\]; give"),
        ({"label_names": ("X", "X")}, r"label_names=\['X', 'X'\]; give each once"),
        ({"sentence_label_names": ("a", "a")}, r"sentence_label_names=\['a', 'a'\]; give"),
        ({"pooling": "last", "sentence_label_names": ("a",)}, "pooling='last' is unknown"),
        (
            {"label_names": (), "sentence_label_names": ("a",), "decoder": "crf"},
            "decoder='crf' needs label_names",
        ),
        ({"decoder": "viterbi"}, "decoder='viterbi' is unknown; use one of 'softmax', 'crf'"),
        ({"embedding_std": 0}, "embedding_std=0 is out of range; give one above 0"),
        ({"embedding_size": 4}, "recurrent.input_size=5, .* takes 4 and True"),
        ({"embedding_size": 0}, "embedding_size=0 is out of range"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, object], text: str) -> None:
    arguments: dict[str, object] = {
        "words": ("<pad>", "<unk>", "a"),
        "label_names": ("X",),
        "embedding_size": 5,
    } | changes
    with pytest.raises(ValueError, match=text):
        Labeller(Recurrent("lstm", 5, 8), **arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
@pytest.mark.parametrize("words", [False, True])
def test_a_sentence_has_the_label_that_numpy_gives_it_alone(words: bool, pooling: str) -> None:
    model = joint_labeller(words=words, pooling=pooling)
    sentences = [["the", "gate", "x"], ["open"], ["close", "the", "gate", "the", "open"]]
    batch = pad([Encoded(model.encode(one)) for one in sentences])
    scores = model(batch.tokens, batch.lengths)
    assert (scores.words is not None) == words
    for row, sentence in enumerate(sentences):
        expected = numpy_labeller.sentence_logits(model, sentence)
        found = scores.sentences[row].detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        if words:
            found = scores.words[row, : len(sentence)].detach().numpy()
            np.testing.assert_allclose(found, numpy_labeller.logits(model, sentence), atol=1e-5)


def test_the_loss_is_that_of_the_words_plus_that_of_the_sentences() -> None:
    model = joint_labeller()
    tokens, lengths = torch.tensor([[2, 3, 4], [5, 0, 0]]), torch.tensor([3, 1])
    labels, whole = torch.tensor([[0, 1, 2], [0, -100, -100]]), torch.tensor([1, -100])
    scores = model(tokens, lengths)
    loss = model.loss(scores, labels, whole, lengths)
    words = [scores.words[0, t].log_softmax(-1)[labels[0, t]] for t in range(3)]
    words.append(scores.words[1, 0].log_softmax(-1)[0])
    # The second sentence's own label does not count.
    sentence = scores.sentences[0].log_softmax(-1)[1]
    torch.testing.assert_close(loss, -torch.stack(words).mean() - sentence)


def test_the_embeddings_begin_as_spread_as_is_asked() -> None:
    words = ("<pad>", "<unk>", *map(str, range(2000)))
    spread = []
    for std in (1.0, 0.1):
        torch.manual_seed(0)
        model = Labeller(
            Recurrent("lstm", 5, 8),
            words=words,
            label_names=("X",),
            embedding_size=5,
            embedding_std=std,
        )
        assert (model.embedding.weight[0] == 0).all()
        spread.append(model.embedding.weight[1:].std().item())
    assert spread == pytest.approx([1.0, 0.1], rel=0.05)
