"""A labeller in NumPy: each sentence and each word by itself, so that no padding exists."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from support.numpy_reference import Array
from support.numpy_stack import NO_MASKS, recompute
from tidegate.train import Recurrent, Zoneout
from tidegate.train.labeller import Labeller
from tidegate.train.pooling import MaxPooling, MeanPooling
from tidegate.train.regularizers import find


def logits(model: Labeller, sentence: Sequence[str]) -> Array:
    """Scores of every label for every word of one sentence, [T, N]."""
    assert model.head is not None
    return linear(model.head, hidden(model, sentence))


def sentence_logits(model: Labeller, sentence: Sequence[str]) -> Array:
    """Scores of every label for one sentence, [M]."""
    assert model.sentence_head is not None
    words = hidden(model, sentence)
    if isinstance(model.pooling, MaxPooling):
        return linear(model.sentence_head, words.max(axis=0))
    if isinstance(model.pooling, MeanPooling):
        return linear(model.sentence_head, words.mean(axis=0))
    assert model.pooling is not None
    scores = np.tanh(linear(model.pooling.hidden, words)) @ array(model.pooling.score.weight)[0]
    return linear(model.sentence_head, softmax(scores) @ words)


def hidden(model: Labeller, sentence: Sequence[str]) -> Array:
    """The network's output for one sentence, [T, W]."""
    rows = [_word(model, word) for word in sentence]
    output, _ = _run(model.recurrent, np.stack(rows))
    outputs: Array = output[0]
    return outputs


def sequence_scores(model: Labeller, sentence: Sequence[str]) -> dict[tuple[int, ...], float]:
    """The score of every sequence of labels under a CRF, by its formula."""
    assert model.crf is not None
    emitted, moved = logits(model, sentence), array(model.crf.transitions)
    start, end = array(model.crf.start), array(model.crf.end)
    return {
        labels: start[labels[0]]
        + sum(emitted[t, label] for t, label in enumerate(labels))
        + sum(moved[pair] for pair in itertools.pairwise(labels))
        + end[labels[-1]]
        for labels in itertools.product(range(len(model.label_names)), repeat=len(sentence))
    }


def marginals(scores: Mapping[tuple[int, ...], float], labels: int) -> Array:
    """The probability of each label for each word, summed over the sequences, [T, N]."""
    total = np.logaddexp.reduce(list(scores.values()))
    sums = np.zeros((len(next(iter(scores))), labels))
    for sequence, score in scores.items():
        sums[np.arange(len(sequence)), sequence] += np.exp(score - total)
    return sums


def softmax(scores: Array) -> Array:
    exponents: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = exponents / exponents.sum(axis=-1, keepdims=True)
    return shares


def linear(layer: nn.Linear, x: Array) -> Array:
    product: Array = x @ array(layer.weight).T + array(layer.bias)
    return product


def array(parameter: Tensor) -> Array:
    values: Array = parameter.detach().numpy().astype(np.float64)
    return values


def _word(model: Labeller, word: str) -> Array:
    """What the network reads of a word: its embedding, then its characters' last states."""
    known = model.words.index(word.lower()) if word.lower() in model.words[2:] else 1
    embedding: Array = array(model.embedding.weight)[known]
    if model.characters is None:
        return embedding
    encoder = model.characters
    names = encoder.characters
    ids = [names.index(one) if one in names[2:] else 1 for one in word[: encoder.max_characters]]
    # A word without characters reads the padding's embedding once.
    x = array(encoder.embedding.weight)[ids or [0]]
    _, (h, *_) = _run(encoder.recurrent, x)
    top = h[-encoder.recurrent.num_directions :, 0]
    return np.concatenate([embedding, *top])


def _run(recurrent: Recurrent, x: Array) -> tuple[Array, tuple[Array, ...]]:
    """One sequence through a network in inference: zoneout is its expectation."""
    zoneout = find(recurrent.regularizers, Zoneout)
    masks = NO_MASKS
    if zoneout is not None:
        zones = np.full((1, 1), zoneout.cell), np.full((1, 1), zoneout.hidden)
        masks = masks._replace(zone_cell=zones[0], zone_hidden=zones[1])
    return recompute(recurrent, torch.from_numpy(x)[None], masks=masks)
