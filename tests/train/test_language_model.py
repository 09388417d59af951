"""Language models: what they compute, how they learn, how they are scored."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tidegate.train import LanguageModel, Recurrent, RNNDrop
from tidegate.train.data.corpus import Corpus, Unit
from tidegate.train.evaluate.language import TokenLosses, score_text
from tidegate.train.fit import LanguageModellingTask

VOCABULARY = ("<unk>", "<eos>", "the", "gate", "opens")


def model(
    cell: str = "lstm", *, hidden: int = 6, embedding: int = 4, tied: bool = True
) -> LanguageModel:
    torch.manual_seed(3)
    recurrent = Recurrent(cell, embedding, hidden, 2)  # type: ignore[arg-type]  # names below
    built = LanguageModel(recurrent, vocabulary=VOCABULARY, embedding_size=embedding, tied=tied)
    with torch.no_grad():
        built.bias.uniform_(-1, 1)
    return built.eval()


def tokens(batch: int = 2, time: int = 9) -> Tensor:
    return model().example(batch, time, torch.Generator().manual_seed(1))


def corpus(ids: list[int]) -> Corpus:
    part = np.array(ids)
    return Corpus("mine", "word", VOCABULARY, part, part, part)


def test_tied_rows_of_the_softmax_are_the_embeddings() -> None:
    network = model(hidden=4)
    assert network.projection is None
    predicted = network(tokens())
    expected = predicted.hidden @ network.embedding.weight.T + network.bias
    assert torch.allclose(predicted.logits, expected, atol=1e-6)
    assert sum(weight.shape[0] == len(VOCABULARY) for weight in network.parameters()) == 2


def test_a_tied_softmax_of_another_width_projects_first() -> None:
    network = model(hidden=6, embedding=4)
    assert network.projection is not None
    predicted = network(tokens())
    inner = predicted.hidden @ network.projection.weight.T
    expected = inner @ network.embedding.weight.T + network.bias
    assert torch.allclose(predicted.logits, expected, atol=1e-6)


def test_an_untied_softmax_has_rows_of_its_own() -> None:
    network = model(tied=False)
    assert network.weight is not None
    assert network.weight.shape == (len(VOCABULARY), 6)
    expected = network(tokens()).hidden @ network.weight.T + network.bias
    assert torch.allclose(network(tokens()).logits, expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_text_cut_anywhere_is_the_text_in_one_call(cell: str) -> None:
    network, ids = model(cell), tokens()
    whole = network(ids)
    for cut in (1, 4, 8):
        first = network(ids[:, :cut])
        second = network(ids[:, cut:], None, first.states)
        joined = torch.cat([first.logits, second.logits], dim=1)
        assert torch.allclose(joined, whole.logits, atol=1e-6)
        for one, other in zip(second.states, whole.states, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_no_step_sees_a_later_token() -> None:
    network, ids = model(), tokens()
    changed = ids.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % len(VOCABULARY)
    before, after = network(ids).logits, network(changed).logits
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_a_network_that_reads_backwards_is_refused_with_the_reason() -> None:
    both = Recurrent("gru", 4, 3, bidirectional=True)
    with pytest.raises(ValueError, match="has seen the very token it is to predict"):
        LanguageModel(both, vocabulary=VOCABULARY, embedding_size=4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"vocabulary": ("the", "gate")}, "give '<unk>' first"),
        ({"vocabulary": ("<unk>", "gate", "gate")}, "each token once"),
        ({"embedding_size": 5}, "embedding_size=5 takes 5 and True"),
        ({"unit": "byte"}, "unit='byte' is unknown"),
        ({"embedding_std": 0.0}, r"embedding_std=0\.0 is out of range"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], text: str) -> None:
    settings: dict[str, Any] = {"vocabulary": VOCABULARY, "embedding_size": 4}
    with pytest.raises(ValueError, match=text):
        LanguageModel(Recurrent("gru", 4, 3), **(settings | arguments))


def test_a_text_is_scored_token_by_token_with_its_state_carried() -> None:
    network, ids = model(), tokens(1, 600)[0]
    scored = score_text(network, ids.numpy(), ids.numpy())
    with torch.no_grad():
        logits = network(ids[None, :-1]).logits[0]
    expected = F.cross_entropy(logits, ids[1:], reduction="none")
    assert np.array_equal(scored.tokens, ids[1:].numpy())
    assert np.allclose(scored.nats, expected.numpy(), atol=1e-5)
    assert scored.metrics()["perplexity"] == pytest.approx(math.exp(scored.nats.mean()))


def test_lanes_score_every_token_once_too() -> None:
    network, ids = model(), tokens(1, 100)[0].numpy()
    scored = score_text(network, ids, ids, lanes=7)
    assert sorted(scored.tokens) == sorted(ids[1:])


def test_a_text_is_scored_on_the_device_of_the_model() -> None:
    """On "meta", which has no numbers, so that reading the tokens is all that can be seen."""
    seen: list[str] = []

    def look(_: torch.nn.Module, read: tuple[Tensor, ...]) -> None:
        seen.append(read[0].device.type)

    network = model().to("meta")
    network.register_forward_pre_hook(look)
    ids = np.array([2, 3, 4, 1])
    with pytest.raises(NotImplementedError, match="meta tensor; no data"):
        score_text(network, ids, ids)
    assert seen == ["meta"]


def test_bits_per_character_are_of_characters_only() -> None:
    nats = np.array([math.log(2.0), 3 * math.log(2.0)])
    counts = np.array([0, 0, 5, 120, 3])

    def losses(unit: Unit) -> TokenLosses:
        return TokenLosses(np.array([2, 3]), nats, VOCABULARY, unit, counts)

    assert losses("character").metrics()["bits_per_character"] == pytest.approx(2.0)
    assert losses("word").metrics() == pytest.approx({"loss": 2 * math.log(2), "perplexity": 4.0})


def test_tables_tell_which_tokens_cost_most_and_how_often_they_were_seen() -> None:
    counts = np.array([0, 7, 5, 120, 3])
    nats = np.log([2.0, 4.0, 4.0, 8.0])
    scored = TokenLosses(np.array([2, 3, 3, 0]), nats, VOCABULARY, "word", counts)
    by_token = scored.by_token()
    assert list(by_token["token"]) == ["gate", "<unk>", "the"]
    assert list(by_token["count"]) == [2, 1, 1]
    assert list(by_token["share"]) == pytest.approx([4 / 8, 3 / 8, 1 / 8])
    by_frequency = scored.by_frequency()
    assert list(by_frequency["from"]) == [0, 1, 100]
    assert list(by_frequency["to"]) == [0, 9, 999]
    assert list(by_frequency["share"]) == [0.25, 0.25, 0.5]
    assert list(by_frequency["perplexity"]) == pytest.approx([8.0, 2.0, 4.0])


def test_a_loss_weighs_every_token_the_same() -> None:
    ids = [2, 3, 4, 1, 2, 3, 4]
    task = LanguageModellingTask(model(), corpus(ids), lanes=1, bptt=4)
    with torch.no_grad():
        first, second = task.losses(1)
    scored = score_text(task.model, np.array(ids), np.array(ids))
    assert float(first) == pytest.approx(scored.nats[:4].sum() / 4, abs=1e-5)
    assert float(second) == pytest.approx(scored.nats[4:].sum() / 4, abs=1e-5)


def test_activation_and_its_change_are_added_with_their_weights() -> None:
    ids = [2, 3, 4, 1, 2]
    plain = LanguageModellingTask(model(), corpus(ids), 1, 4)
    both = LanguageModellingTask(
        model(), corpus(ids), 1, 4, activation=2.0, temporal_activation=3.0
    )
    with torch.no_grad():
        hidden = model()(torch.tensor([ids[:4]])).hidden
        added = 2.0 * (hidden**2).mean() + 3.0 * ((hidden[:, 1:] - hidden[:, :-1]) ** 2).mean()
        difference = next(both.losses(1)) - next(plain.losses(1))
    assert float(difference) == pytest.approx(float(added), rel=1e-4)


def test_drawn_lengths_are_an_epochs_own_so_that_a_resumed_run_goes_on_among_them() -> None:
    ids = tokens(1, 400)[0].tolist()

    def losses(epoch: int, start: int = 0) -> list[float]:
        task = LanguageModellingTask(model(), corpus(ids), 1, 20, variable_bptt=True)
        with torch.no_grad():
            return [float(loss) for loss in task.losses(epoch, start)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert len(losses(1, start=3)) == len(losses(1)) - 3


def test_masks_of_a_lane_persist_for_an_epoch_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    forward = Recurrent.forward

    def spy(self: Recurrent, *args: Any, sequences: Tensor | None = None) -> object:
        seen.append(sequences)
        return forward(self, *args, sequences=sequences)

    monkeypatch.setattr(Recurrent, "forward", spy)
    network = LanguageModel(
        Recurrent("gru", 4, 4, regularizers=[RNNDrop(0.5)]),
        vocabulary=VOCABULARY,
        embedding_size=4,
    )
    ids = tokens(1, 41)[0].tolist()
    task = LanguageModellingTask(network, corpus(ids), lanes=2, bptt=10, persistent_masks=True)
    first, second = [list(seen[-2:]) for epoch in (1, 2) if list(task.losses(epoch))]
    assert all(one is not None for one in (*first, *second))
    assert torch.equal(first[0], first[1])
    assert len({*first[0].tolist(), *second[0].tolist()}) == 4
