"""Dropout of words, and the recipe that has it."""

import copy
import math

import numpy as np
import pytest
import torch

from support.models import small_forecaster, small_recurrent
from tidegate.train import (
    EmbeddingDropout,
    Labeller,
    Recurrent,
    Variational,
    WeightDrop,
    Zaremba,
    awd,
    counter_rng,
    monte_carlo,
)
from tidegate.train.mask_sampler import _Draw
from tidegate.train.regularizers import Regularizer

WORDS = ("<pad>", "<unk>", *(f"word{number}" for number in range(200)))
P = 0.3


def labeller(*regularizers: Regularizer) -> Labeller:
    torch.manual_seed(2)
    return Labeller(
        Recurrent("lstm", 5, 8, bidirectional=True, regularizers=regularizers),
        words=WORDS,
        label_names=("A", "B"),
        embedding_size=5,
    )


def tokens(rows: int = 40, steps: int = 30) -> torch.Tensor:
    return torch.randint(1, len(WORDS), (rows, steps), generator=torch.Generator().manual_seed(0))


def factors(model: Labeller, ids: torch.Tensor) -> torch.Tensor:
    """What the next pass multiplies each word's embedding by, [B, T]."""
    ones = torch.ones(*ids.shape, 5)
    dropped = model.recurrent.drop_words(ones, ids)
    assert (dropped == dropped[:, :, :1]).all()
    return dropped[:, :, 0]


def test_a_word_is_dropped_wherever_it_stands_in_a_row_or_nowhere() -> None:
    model, ids = labeller(EmbeddingDropout(P)), tokens()

    found = factors(model, ids)

    for row, line in zip(ids.tolist(), found.tolist(), strict=True):
        by_word: dict[int, set[float]] = {}
        for word, factor in zip(row, line, strict=True):
            by_word.setdefault(word, set()).add(factor)
        assert all(len(values) == 1 for values in by_word.values())
    assert sorted(set(found.flatten().tolist())) == pytest.approx([0.0, 1 / (1 - P)])


def test_each_row_drops_its_own_words_at_the_rate() -> None:
    model = labeller(EmbeddingDropout(P))
    ids = torch.arange(len(WORDS)).expand(200, -1)

    dropped = (factors(model, ids) == 0).double()

    assert abs(dropped.mean().item() - P) < 5 * math.sqrt(P * (1 - P) / dropped.numel())
    between = ((dropped[0::2] - P) * (dropped[1::2] - P)).mean().item()
    assert abs(between) < 5 * P * (1 - P) / math.sqrt(dropped.numel() / 2)


def test_training_equals_numpy_with_the_rows_of_the_embedding_zeroed() -> None:
    model, ids = labeller(EmbeddingDropout(P)), tokens(3, 6)
    key = counter_rng.derive_key(model.recurrent.seed, 0, 0, 0, _Draw.EMBEDDING)
    zeroed = counter_rng.drop(key, P, times=1, samples=3, units=len(WORDS))[0].numpy()
    table = model.embedding.weight.detach().numpy()
    expected = np.stack(
        [(table * ~zeroed[row, :, None] / (1 - P))[line] for row, line in enumerate(ids.numpy())]
    )

    found = model(ids).words

    plain = copy.deepcopy(model).eval()
    assert plain.head is not None
    hidden, _ = plain.recurrent(torch.from_numpy(expected.astype(np.float32)))
    torch.testing.assert_close(found, plain.head(hidden), atol=1e-6, rtol=0)


def test_padding_and_batch_mates_change_no_words_mask() -> None:
    model, ids = labeller(EmbeddingDropout(P)), tokens(4, 9)

    assert factors(model, ids)[:2, :5].equal(factors(model, ids[:2, :5]))


def test_every_pass_drops_other_words_and_evaluation_none() -> None:
    model, ids = labeller(EmbeddingDropout(P)), tokens(3, 30)

    first, second = model(ids).words, model(ids).words

    assert not first.equal(second)
    before = torch.get_rng_state()
    model.eval()
    assert factors(model, ids).eq(1).all()
    assert model(ids).words.equal(model(ids).words)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_extreme_rates_drop_nothing_and_everything(p: float) -> None:
    found = factors(labeller(EmbeddingDropout(p)), tokens())

    assert found.eq(1 - p).all()


def test_sampled_networks_drop_words_too() -> None:
    ids = tokens(2, 6)
    result = monte_carlo(labeller(EmbeddingDropout(P)), ids, mc_samples=6)
    both = monte_carlo(labeller(EmbeddingDropout(P), Variational(0.2)), ids, mc_samples=6)

    assert (result.std > 0).any()
    assert (both.std > 0).all()


def test_a_network_that_reads_numbers_has_no_words_to_drop() -> None:
    with pytest.raises(ValueError, match="drops words, and a forecaster reads numbers"):
        small_forecaster(regularizers=[EmbeddingDropout(0.1)])


def test_words_have_one_rate() -> None:
    with pytest.raises(ValueError, match="words are below every layer; give one number"):
        EmbeddingDropout((0.1, 0.2))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"p=1\.5 is not a probability"):
        EmbeddingDropout(1.5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_awd_recipe_is_that_of_its_paper(layers: int) -> None:
    recipe = awd(layers, words=True)

    assert recipe == (
        WeightDrop(0.5),
        Zaremba((0.4, *[0.3] * (layers - 1)), granularity="sequence", output_p=0.4),
        EmbeddingDropout(0.1),
    )
    assert awd(layers, words=False) == recipe[:2]
    small_recurrent("lstm", num_layers=layers, regularizers=recipe)
