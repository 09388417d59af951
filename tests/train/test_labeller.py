"""The labeller."""

import pytest
import torch

from support.models import small_labeller
from tidegate.train import Labeller, Recurrent


def test_words_are_looked_up_in_lower_case_and_unknown_ones_are_one() -> None:
    assert small_labeller().encode(["The", "GATE", "gates"]) == [4, 5, 1]


def test_a_sentence_is_labelled_alone_as_in_a_padded_batch() -> None:
    model = small_labeller()
    tokens = torch.tensor([[2, 3, 0, 0], [4, 5, 2, 1]])

    together = model(tokens, torch.tensor([2, 4]))
    alone = model(tokens[:1, :2])

    torch.testing.assert_close(together[:1, :2], alone)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_two_directions_see_the_words_to_the_right(bidirectional: bool) -> None:
    model = small_labeller(bidirectional=bidirectional)
    before, after = model(torch.tensor([[2, 3, 4], [2, 3, 5]]))

    sees_the_future = not torch.equal(before[:2], after[:2])
    assert sees_the_future == bidirectional


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"words": ("a", "b")}, r"words begins with \['a', 'b'\]; give \['<pad>', '<unk>'\] first"),
        ({"words": ("<pad>", "<unk>", "a", "a")}, "each word once"),
        ({"label_names": ()}, r"label_names=\[\]; give at least one, each once"),
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
