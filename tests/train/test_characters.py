"""Reading words by their characters."""

import numpy as np
import pytest
import torch
from torch import Tensor

from support import numpy_labeller
from support.models import CHARACTERS, character_labeller, small_labeller
from tidegate.train import Recurrent, Zoneout
from tidegate.train.characters import CharacterEncoder
from tidegate.train.data.buckets import Encoded, pad
from tidegate.train.data.sentences import Sentence, character_list
from tidegate.train.labeller import Labeller
from tidegate.train.regularizers import Regularizer

SENTENCES = [
    ["The", "gate", "opened"],
    ["x"],
    ["", "Gates", "\u00e9t\u00e9", "openopenopen", "the", "gate", "gate"],
]


def batch(model: Labeller, sentences: list[list[str]]) -> tuple[Tensor, Tensor, Tensor | None]:
    padded = pad(
        [Encoded(model.encode(one), (), model.encode_characters(one)) for one in sentences]
    )
    return padded.tokens, padded.lengths, padded.chars


@pytest.mark.parametrize("regularizers", [(), (Zoneout(0.3, 0.2),)], ids=["plain", "zoneout"])
@pytest.mark.parametrize(
    ("cell", "layers", "directions"), [("lstm", 1, 2), ("gru", 2, 2), ("lstm", 1, 1), ("rnn", 2, 1)]
)
def test_a_padded_batch_gives_what_numpy_gives_word_by_word(
    cell: str, layers: int, directions: int, regularizers: tuple[Regularizer, ...]
) -> None:
    model = character_labeller(
        cell,
        character_layers=layers,
        character_directions=directions,
        regularizers=regularizers,
    )
    found = model(*batch(model, SENTENCES)).words.detach().numpy()
    for row, sentence in enumerate(SENTENCES):
        expected = numpy_labeller.logits(model, sentence)
        np.testing.assert_allclose(found[row, : len(sentence)], expected, atol=1e-5)


def test_only_the_first_characters_of_a_long_word_are_read() -> None:
    encoder = character_labeller().characters
    assert encoder is not None
    assert encoder.encode("opengate") == encoder.encode("openga")
    assert [encoder.characters[i] for i in encoder.encode("G\u00e9")] == ["G", "<unk>"]
    assert encoder.encode("<pad>") == [1, encoder.characters.index("p"), 3 - 1, 4, 1]


def test_syllables_are_taken_apart_before_they_are_counted() -> None:
    characters = character_list([Sentence(("\ud55c\ud55c",), ("X",))], normalization="NFD")
    assert characters[2:] == ["\u1112", "\u1161", "\u11ab"]
    encoder = CharacterEncoder(
        Recurrent("lstm", 2, 2),
        characters=characters,
        embedding_size=2,
        max_characters=2,
        normalization="NFD",
    )
    assert encoder.encode("\ud55c") == [2, 3]


def test_rare_characters_are_unknown() -> None:
    train = [Sentence(("aab", "c"), ("X", "Y"))]
    assert character_list(train) == ["<pad>", "<unk>", "a", "b", "c"]
    assert character_list(train, min_count=2) == ["<pad>", "<unk>", "a"]


def test_characters_learn_and_padding_does_not() -> None:
    model = character_labeller().train()
    model(*batch(model, SENTENCES)).words.sum().backward()
    assert model.characters is not None
    gradient = model.characters.embedding.weight.grad
    assert gradient is not None
    assert (gradient[0] == 0).all()
    assert (gradient[CHARACTERS.index("G")] != 0).any()


def test_word_dropout_hides_words_in_training_only() -> None:
    model = character_labeller(word_dropout=0.5)
    tokens, lengths, chars = batch(model, [["the", "gate"] * 50])
    shown = model.embedding
    seen: list[Tensor] = []
    shown.register_forward_hook(lambda *call: seen.append(call[1][0]))
    torch.manual_seed(0)
    model.train()(tokens, lengths, chars)
    model.eval()(tokens, lengths, chars)
    hidden = (seen[0] == 1).float().mean().item()
    assert 0.3 < hidden < 0.7
    assert torch.equal(seen[1], tokens)


def test_a_labeller_takes_characters_only_if_it_reads_them() -> None:
    tokens = torch.tensor([[2, 3]])
    with pytest.raises(ValueError, match=r"chars=None: this labeller reads characters too"):
        character_labeller()(tokens)
    with pytest.raises(ValueError, match=r"chars=\.\.\.: this labeller reads no characters"):
        small_labeller()(tokens, chars=torch.zeros(1, 2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"characters": ("a",)}, r"characters begins with \['a'\]; give \['<pad>', '<unk>'\]"),
        ({"characters": ("<pad>", "<unk>", "ab")}, "characters holds 'ab'; give single"),
        ({"embedding_size": 3}, "recurrent.input_size=2, .* take 3 and True"),
        ({"max_characters": 0}, "max_characters=0 is out of range"),
        ({"normalization": "nfd"}, "normalization='nfd' is unknown"),
        (
            {"recurrent": Recurrent("lstm", 2, 2, bidirectional=True, merge="sum")},
            "recurrent.merge='sum': the last states of two directions are concatenated",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, object], text: str) -> None:
    arguments: dict[str, object] = {
        "recurrent": Recurrent("lstm", 2, 2),
        "characters": ("<pad>", "<unk>", "a"),
        "embedding_size": 2,
    } | changes
    with pytest.raises(ValueError, match=text):
        CharacterEncoder(**arguments)  # type: ignore[arg-type]  # wrong on purpose


def test_a_word_dropout_of_all_words_is_refused() -> None:
    with pytest.raises(ValueError, match="word_dropout=1 is no probability below 1"):
        character_labeller(word_dropout=1)
