"""Monte Carlo inference: predictions of many sampled networks, their mean and spread.

A mask that does not change over time within a sequence makes one network out of
the trained one; many such masks are samples of an approximate posterior over
networks, and the spread of their predictions says how sure the model is of
them.

Source: Gal and Ghahramani 2016, arXiv 1512.05287 (variational masks), and for
masks on weights Gal and Ghahramani 2016, arXiv 1506.02142.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Decoded, Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.recurrent import Recurrent


class MonteCarlo(NamedTuple):
    """Statistics over sampled networks, each in the shape of one prediction.

    Attributes:
        mean: of the predictions.
        std: their standard deviation (the unbiased estimate of its square).
    """

    mean: Tensor
    std: Tensor


@torch.no_grad()
def monte_carlo(
    model: nn.Module,
    *inputs: object,
    mc_samples: int,
    prediction: Callable[[Any], Tensor] | None = None,
) -> MonteCarlo:
    """Predicts with ``mc_samples`` networks sampled from the model.

    Each row of the batch has masks of its own, for the whole sequence. They
    follow from the model's seed and the number of the sample alone, so the same
    call gives the same answer. Masks per sequence are drawn; methods per step
    are as in evaluation: absent, or zoneout's expectation. The model's mode,
    its next masks in training and torch's generator are left as they are.

    Args:
        model: a :class:`Recurrent`, :class:`Forecaster`, :class:`Labeller` or
            :class:`LanguageModel`, or a module that holds one.
        *inputs: what the model's forward takes, such as x, lengths and state.
        mc_samples: networks, at least 2; the time and not the memory grows with it.
        prediction: what to take of the model's result. None: the output of a
            :class:`Recurrent`, the quantiles of a :class:`Forecaster`, the
            probabilities of a :class:`Labeller`, of words if they have labels, else
            of sentences, and those of the next token of a :class:`LanguageModel`.

    Raises:
        ValueError: there are too few samples, or no mask per sequence to draw.
        TypeError: the model is of another kind and ``prediction`` is None.
    """
    taken = prediction or _prediction(model, inputs)
    mean = total = torch.zeros(())
    # Welford 1962: sums of squares would cancel.
    with closing(sampled_networks(model, mc_samples)) as networks:
        for count, _ in enumerate(networks, start=1):
            value = taken(model(*inputs))
            if count == 1:
                mean, total = torch.zeros_like(value), torch.zeros_like(value)
            change = value - mean
            mean = mean + change / count
            total = total + change * (value - mean)
    return MonteCarlo(mean, (total / (mc_samples - 1)).sqrt())


def sampled_networks(model: nn.Module, mc_samples: int) -> Generator[int, None, None]:
    """Makes a model one sampled network after another, in evaluation mode.

    Within one turn every call sees the same network, so a long sequence may be
    given in segments with carried state. Afterwards, or once the generator is
    closed, the model is as it was.

    Args:
        model: holds at least one :class:`Recurrent`.
        mc_samples: networks, at least 2.

    Yields:
        The number of the sample.

    Raises:
        ValueError: there are too few samples, or no mask per sequence to draw.
    """
    if mc_samples < 2:
        raise ValueError(f"mc_samples={mc_samples!r} has no spread; give a whole number from 2 up")
    networks = [one for one in model.modules() if isinstance(one, Recurrent)]
    if not any(one.samples_networks for one in networks):
        methods = [method.name for one in networks for method in one.regularizers]
        raise ValueError(
            f"mc_samples={mc_samples} with regularizers={methods}: none of them has a mask that "
            "lasts for a sequence, so there is one network and nothing to sample. Use variational, "
            "rnndrop, weight_drop, or granularity='sequence', at a rate above 0"
        )
    training = model.training
    model.eval()
    try:
        for number in range(mc_samples):
            for network in networks:
                network.sample = number
            yield number
    finally:
        for network in networks:
            network.sample = None
        model.train(training)


def _prediction(model: nn.Module, inputs: Sequence[Any]) -> Callable[[Any], Tensor]:
    if isinstance(model, Recurrent | Forecaster):
        return _first
    if isinstance(model, LanguageModel):
        return lambda predicted: predicted.logits.softmax(dim=-1)
    if isinstance(model, Labeller):
        tokens, lengths = (*inputs, None)[:2]
        if lengths is None:
            lengths = torch.full(tokens.shape[:1], tokens.shape[1])
        return lambda scores: _probabilities(model.decode(scores, lengths))
    raise TypeError(
        f"model is a {type(model).__name__}; give prediction=, a function of the model's result"
    )


def _first(result: tuple[Tensor, Any]) -> Tensor:
    return result[0]


def _probabilities(decoded: Decoded) -> Tensor:
    words, sentences = decoded.probabilities, decoded.sentence_probabilities
    if words is not None:
        return words
    assert sentences is not None, "a labeller labels words or sentences"  # noqa: S101 - for mypy
    return sentences
