"""A labeller as a graph, and what its parity is measured with.

Dimensions: B batch, T time, C characters, N labels of words.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tidegate.train.crf import LinearChainCRF
from tidegate.train.export.characters import add_characters, zero_state
from tidegate.train.export.crf import add_crf
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.layers import add_stack
from tidegate.train.export.pooling import add_pooling
from tidegate.train.export.weights import to_numpy
from tidegate.train.labeller import Labeller

Arrays = dict[str, NDArray[Any]]

# Scores of labels are sums of numbers around 10, in float32.
TIE = 1e-4

_TIME_MAJOR = (1, 0, 2)


def build_labeller(model: Labeller, graph: GraphBuilder) -> GraphBuilder:
    """Token ids, character ids and lengths in; labels and their probabilities out."""
    recurrent = model.recurrent
    tokens = graph.input("tokens", "int64", ("batch", "time"))
    table = graph.constant(to_numpy(model.embedding.weight), name="embedding")
    words = graph.add("Gather", table, tokens)
    if model.characters is not None:
        chars = graph.input("chars", "int64", ("batch", "time", "characters"))
        words = graph.add("Concat", words, add_characters(graph, model.characters, chars), axis=-1)
    lengths = graph.input("lengths", "int32", ("batch",))
    states = [zero_state(graph, recurrent, lengths)] * len(STATE_NAMES[recurrent.cell])
    time_major = graph.transpose(words, _TIME_MAJOR)
    y, _ = add_stack(graph, recurrent, time_major, lengths, states)
    hidden = graph.transpose(y, _TIME_MAJOR)
    if model.head is not None:
        logits = _linear(graph, hidden, model.head, "head")
        if model.crf is not None:
            labels, probabilities = add_crf(graph, model.crf, logits, lengths)
        else:
            labels, probabilities = _softmax(graph, logits)
        shape = ("batch", "time", len(model.label_names))
        graph.output(labels, "labels", "int64", shape[:2])
        graph.output(probabilities, "probabilities", "float32", shape)
    if model.pooling is not None and model.sentence_head is not None:
        pooled = add_pooling(graph, model.pooling, hidden, lengths)
        labels, probabilities = _softmax(
            graph, _linear(graph, pooled, model.sentence_head, "sentence")
        )
        graph.output(labels, "sentence_labels", "int64", ("batch",))
        shape_of_all = ("batch", len(model.sentence_label_names))
        graph.output(probabilities, "sentence_probabilities", "float32", shape_of_all)
    return graph


def _softmax(graph: GraphBuilder, logits: str) -> tuple[str, str]:
    """The most probable label, and the probability of each."""
    labels = graph.add("ArgMax", logits, axis=-1, keepdims=0)
    return labels, graph.add("Softmax", logits, axis=-1)


def _linear(graph: GraphBuilder, x: str, layer: nn.Linear, name: str) -> str:
    """W x + b."""
    weight = graph.constant(to_numpy(layer.weight).T, name=f"{name}_W")
    bias = graph.constant(to_numpy(layer.bias), name=f"{name}_B")
    return graph.add("Add", graph.add("MatMul", x, weight), bias)


def draw_characters(model: nn.Module, batch: int, time: int, generator: torch.Generator) -> Arrays:
    """The input `chars` of a labeller that reads characters; else nothing."""
    if not isinstance(model, Labeller) or model.characters is None:
        return {}
    return {"chars": model.characters.example(batch, time, generator).numpy()}


def run_labeller(
    model: Labeller, inputs: dict[str, Tensor], found: Arrays, rounding: float = 0.0
) -> Arrays:
    """What the model itself gives, by the names of the graph's outputs.

    Of two labels that are equally good within rounding either may be given. So the
    graph's own label is the right one wherever its score is as good as the best.

    Args:
        model: the labeller, in float64: float32 rounds the score of a long sentence by
            more than a tie.
        inputs: the graph's.
        found: the graph's outputs.
        rounding: of the score of a word's label, besides that of float32.
    """
    lengths = inputs["lengths"].long()
    scores = model(inputs["tokens"], lengths, inputs.get("chars"))
    expected = {k: v for k, v in model.decode(scores, lengths)._asdict().items() if v is not None}
    for name, logits in (("labels", scores.words), ("sentence_labels", scores.sentences)):
        if logits is not None:
            given = torch.from_numpy(found[name])
            crf = model.crf if name == "labels" else None
            as_good = _as_good(crf, logits, lengths, given, rounding)
            expected[name] = torch.where(as_good, given, expected[name])
    return {name: value.numpy() for name, value in expected.items()}


def _as_good(
    crf: LinearChainCRF | None, logits: Tensor, lengths: Tensor, given: Tensor, rounding: float
) -> Tensor:
    """Whether given labels score as the best ones do; with a CRF for each sentence, [B, 1]."""
    if crf is None:
        return logits.gather(-1, given[..., None])[..., 0] >= logits.amax(dim=-1) - TIE - rounding
    best = crf.decode(logits, lengths)
    scores = [crf.score(logits, labels, lengths) for labels in (given, best)]
    return (scores[0] >= scores[1] - TIE - rounding * lengths)[:, None]
