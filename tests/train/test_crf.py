"""The linear-chain CRF against all sequences of labels, one by one."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.models import crf_labeller
from tidegate.train.crf import LinearChainCRF
from tidegate.train.labeller import Scores


class Case:
    """Random transitions and logits; every sequence's score by the formula alone."""

    def __init__(self, labels: int, lengths: list[int], seed: int, spread: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.crf = LinearChainCRF(labels).double()
        for parameter in self.crf.parameters():
            with torch.no_grad():
                parameter.normal_(0, spread, generator=generator)
        shape = (len(lengths), max(lengths) + 1, labels)
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
        self.lengths = torch.tensor(lengths)
        self.labels = labels

    def scores(self, row: int) -> dict[tuple[int, ...], float]:
        """Every sequence of labels of one sentence, with its score."""
        T, C = self.crf.transitions.detach().numpy(), self.logits[row].numpy()
        start, end = self.crf.start.detach().numpy(), self.crf.end.detach().numpy()
        return {
            y: start[y[0]]
            + sum(C[t, label] for t, label in enumerate(y))
            + sum(T[a, b] for a, b in itertools.pairwise(y))
            + end[y[-1]]
            for y in itertools.product(range(self.labels), repeat=int(self.lengths[row]))
        }


CASES = st.builds(
    Case,
    labels=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.0, 1.0, 40.0]),
)


@given(CASES)
@settings(deadline=None)
def test_the_partition_is_the_sum_over_all_sequences(case: Case) -> None:
    found = case.crf.log_partition(case.logits, case.lengths)
    for row in range(len(case.lengths)):
        scores = list(case.scores(row).values())
        largest = max(scores)
        expected = largest + math.log(sum(math.exp(score - largest) for score in scores))
        assert found[row].item() == pytest.approx(expected, abs=1e-9)


@given(CASES, st.integers(0, 1000))
@settings(deadline=None)
def test_the_likelihood_is_the_share_of_one_sequence(case: Case, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(case.labels, case.logits.shape[:2], generator=generator)
    found = case.crf(case.logits, _ignoring_padding(labels, case.lengths), case.lengths)
    for row, length in enumerate(case.lengths.tolist()):
        scores = case.scores(row)
        total = np.logaddexp.reduce(list(scores.values()))
        expected = total - scores[tuple(labels[row, :length].tolist())]
        assert found[row].item() == pytest.approx(expected, abs=1e-9)


@given(CASES)
@settings(deadline=None)
def test_viterbi_finds_a_best_sequence(case: Case) -> None:
    found = case.crf.decode(case.logits, case.lengths)
    for row, length in enumerate(case.lengths.tolist()):
        scores = case.scores(row)
        given_labels = tuple(found[row, :length].tolist())
        assert scores[given_labels] == pytest.approx(max(scores.values()), abs=1e-9)


@given(CASES)
@settings(deadline=None)
def test_a_marginal_is_the_sum_over_the_sequences_that_have_the_label(case: Case) -> None:
    found = case.crf.marginals(case.logits, case.lengths)
    for row, length in enumerate(case.lengths.tolist()):
        scores = case.scores(row)
        total = np.logaddexp.reduce(list(scores.values()))
        for t, label in itertools.product(range(length), range(case.labels)):
            expected = sum(math.exp(s - total) for y, s in scores.items() if y[t] == label)
            assert found[row, t, label].item() == pytest.approx(expected, abs=1e-9)


def test_padding_has_no_influence_and_no_gradient() -> None:
    case = Case(3, [2, 4], seed=1)
    logits = case.logits.requires_grad_()
    labels = torch.tensor([[0, 1, -100, -100, -100], [2, 2, 1, 0, -100]])
    loss: Tensor = case.crf(logits, labels, case.lengths).sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without a signature
    assert logits.grad is not None
    assert (logits.grad[0, 2:] == 0).all()
    assert (logits.grad[0, :2] != 0).all()
    changed = case.logits.detach().clone()
    changed[0, 2:] = 1e6
    for method in (case.crf.log_partition, case.crf.decode, case.crf.marginals):
        before, after = (method(one, case.lengths)[0] for one in (case.logits, changed))
        assert torch.equal(before.flatten()[:2], after.flatten()[:2])


def test_the_gradient_of_the_partition_is_the_marginals() -> None:
    case = Case(4, [3, 5, 1], seed=2)
    logits = case.logits.requires_grad_()
    loss = case.crf.log_partition(logits, case.lengths).sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without a signature
    marginals = case.crf.marginals(logits, case.lengths)
    real = torch.arange(logits.shape[1]) < case.lengths[:, None]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[real], marginals[real])


def test_long_sentences_lose_no_digits() -> None:
    torch.manual_seed(0)
    crf = LinearChainCRF(5)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    logits, lengths = torch.randn(2, 500, 5) * 5, torch.tensor([500, 400])
    exact = crf.double().marginals(logits.double(), lengths)
    found = crf.float().marginals(logits, lengths)
    torch.testing.assert_close(found[:, :400], exact[:, :400].float(), atol=1e-5, rtol=0)


def test_a_word_without_a_label_is_refused() -> None:
    case = Case(2, [2], seed=0)
    with pytest.raises(ValueError, match="labels hold a word without a label"):
        case.crf(case.logits, torch.tensor([[0, -100, -100]]), case.lengths)
    with pytest.raises(ValueError, match="labels=0 is out of range"):
        LinearChainCRF(0)


def test_a_labeller_with_a_crf_learns_what_no_word_says_by_itself() -> None:
    # The labels alternate, and what the network says of every word is the same.
    model = crf_labeller()
    assert model.crf is not None
    assert model.head is not None
    labels, lengths, none = torch.tensor([[0, 1] * 4]), torch.tensor([8]), torch.tensor([-100])
    hidden = torch.zeros(1, 8, model.recurrent.output_size)
    optimizer = torch.optim.Adam([*model.crf.parameters(), *model.head.parameters()], 0.2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(Scores(model.head(hidden), None), labels, none, lengths)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without a signature
        optimizer.step()
    found = model.decode(Scores(model.head(hidden), None), lengths)
    assert found.labels is not None
    assert found.probabilities is not None
    assert torch.equal(found.labels, labels)
    assert torch.equal(found.probabilities.argmax(dim=-1), labels)


def _ignoring_padding(labels: Tensor, lengths: Tensor) -> Tensor:
    real = torch.arange(labels.shape[1]) < lengths[:, None]
    return labels.masked_fill(~real, -100)
