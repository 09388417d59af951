"""Pooling over a sentence's words as graph nodes; see tidegate.train.pooling.

Dimensions: B batch, T time, W width.
"""

from tidegate.train.export.graph import FLOAT32, INT64, GraphBuilder
from tidegate.train.export.weights import to_numpy
from tidegate.train.pooling import MaxPooling, MeanPooling, Pooling


def add_pooling(graph: GraphBuilder, pooling: Pooling, hidden: str, lengths: str) -> str:
    """Adds the pooling: hidden [B, T, W] and lengths int32 [B] to [B, W]."""
    real, axis = _real_words(graph, hidden, lengths), graph.constant([1], "int64")
    if isinstance(pooling, MeanPooling):
        words = graph.add("Where", real, hidden, graph.constant(0.0))
        counts = graph.reshape(graph.add("Cast", lengths, to=FLOAT32), (-1, 1))
        return graph.add("Div", graph.add("ReduceSum", words, axis, keepdims=0), counts)
    least = graph.constant(float("-inf"))
    if isinstance(pooling, MaxPooling):
        words = graph.add("Where", real, hidden, least)
        return graph.add("ReduceMax", words, axis, keepdims=0)
    weight, bias = to_numpy(pooling.hidden.weight), to_numpy(pooling.hidden.bias)
    inner = graph.add("MatMul", hidden, graph.constant(weight.T, name="pooling_W"))
    inner = graph.add("Add", inner, graph.constant(bias, name="pooling_B"))
    score = graph.constant(to_numpy(pooling.score.weight).T, name="pooling_v")
    scores = graph.add("MatMul", graph.add("Tanh", inner), score)
    weights = graph.add("Softmax", graph.add("Where", real, scores, least), axis=1)
    return graph.add("ReduceSum", graph.add("Mul", weights, hidden), axis, keepdims=0)


def _real_words(graph: GraphBuilder, hidden: str, lengths: str) -> str:
    """Which words are not padding, bool [B, T, 1]."""
    time = graph.add("Squeeze", graph.add("Shape", hidden, start=1, end=2))
    zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
    steps = graph.reshape(graph.add("Range", zero, time, one), (1, -1, 1))
    rows = graph.reshape(graph.add("Cast", lengths, to=INT64), (-1, 1, 1))
    return graph.add("Less", steps, rows)
