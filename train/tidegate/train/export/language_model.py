"""A language model as a graph, and what its parity is measured with.

Dimensions: B batch, T time, E embedding, H hidden, V tokens of the vocabulary.
"""

from torch import Tensor

from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.layers import add_stack
from tidegate.train.export.weights import to_numpy
from tidegate.train.language_model import LanguageModel

OUTPUT = "log_probabilities"

_TIME_MAJOR = (1, 0, 2)


def build_language_model(model: LanguageModel, graph: GraphBuilder) -> GraphBuilder:
    """Token ids, lengths and states in; log-probabilities and the next states out."""
    recurrent = model.recurrent
    tokens = graph.input("tokens", "int64", ("batch", "time"))
    lengths = graph.input("lengths", "int32", ("batch",))
    names = STATE_NAMES[recurrent.cell]
    shape = (recurrent.num_layers, "batch", recurrent.hidden_size)
    states = [graph.input(name, "float32", shape) for name in names]
    table = graph.constant(to_numpy(model.embedding.weight), name="embedding")
    words = graph.transpose(graph.add("Gather", table, tokens), _TIME_MAJOR)
    y, new = add_stack(graph, recurrent, words, lengths, states)
    hidden = graph.transpose(y, _TIME_MAJOR)
    if model.projection is not None:
        weight = to_numpy(model.projection.weight).T
        hidden = graph.add("MatMul", hidden, graph.constant(weight, name="projection_W"))
    logits = _softmax_rows(graph, model, hidden, tokens)
    log_probabilities = graph.add("LogSoftmax", logits, axis=-1)
    shape_of_all = ("batch", "time", len(model.vocabulary))
    graph.output(log_probabilities, OUTPUT, "float32", shape_of_all)
    for name, value in zip(names, new, strict=True):
        graph.output(value, f"{name}_next", "float32", shape)
    return graph


def _softmax_rows(graph: GraphBuilder, model: LanguageModel, hidden: str, tokens: str) -> str:
    """[B, T, E or H] to logits [B, T, V].

    By Gemm, which reads the rows as they are: a MatMul would ask for a tied table
    once more, transposed.
    """
    rows = "embedding" if model.weight is None else "head_W"
    weight = model.embedding.weight if model.weight is None else model.weight
    width = weight.shape[1]
    flat = graph.reshape(hidden, (-1, width))
    bias = graph.constant(to_numpy(model.bias), name="head_B")
    table = graph.constant(to_numpy(weight), name=rows)
    logits = graph.add("Gemm", flat, table, bias, transB=1)
    size = graph.constant([len(model.vocabulary)], "int64")
    shape = graph.add("Concat", graph.add("Shape", tokens), size, axis=0)
    return graph.add("Reshape", logits, shape)


def run_language_model(
    model: LanguageModel, tokens: Tensor, lengths: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the model itself gives: log-probabilities [B, T, V] and the next states."""
    predicted = model(tokens, lengths, states)
    return predicted.logits.log_softmax(dim=-1), predicted.states
