"""A linear-chain CRF as graph nodes: Viterbi and the marginals, each step by step.

The equations are those of :class:`tidegate.train.crf.LinearChainCRF`. One Scan
goes forward with delta (Viterbi) and alpha, one backward with the label and beta.
At the first word and in padding no state moves, so that one word or a whole
sentence of any length takes the same graph.

Dimensions: B batch, T time, N labels.
"""

from typing import NamedTuple

import onnx

from tidegate.train.crf import LinearChainCRF
from tidegate.train.export.graph import INT64, GraphBuilder
from tidegate.train.export.weights import to_numpy

TRANSITIONS = "crf_transitions"
# Beside those of the network, if that is an expectation.
SCANS = 2


class Decoded(NamedTuple):
    """Names of the best labels, int64 [B, T], and of their marginals [B, T, N]."""

    labels: str
    marginals: str


def add_crf(graph: GraphBuilder, crf: LinearChainCRF, logits: str, lengths: str) -> Decoded:
    """Adds both recursions.

    Args:
        graph: to add to.
        crf: the transitions.
        logits: [B, T, N].
        lengths: int32 [B].
    """
    logits = graph.transpose(logits, (1, 0, 2))
    moves = _moves(graph, logits, lengths)
    first = graph.add("Gather", logits, graph.constant([0], "int64"), axis=0)
    first = graph.add("Squeeze", first, graph.constant([0], "int64"))
    begin = graph.add("Add", first, graph.constant(to_numpy(crf.start), name="crf_start"))
    alpha = graph.add("LogSoftmax", begin, axis=-1)
    delta, _, pointers, alphas = graph.add_many(
        "Scan",
        [begin, alpha, logits, moves],
        4,
        body=_forward_body(graph, crf),
        num_scan_inputs=2,
    )
    end = graph.constant(to_numpy(crf.end), name="crf_end")
    label = graph.add("ArgMax", graph.add("Add", delta, end), axis=1, keepdims=1)
    beta = graph.add("Expand", end, graph.add("Shape", begin))
    _, _, labels, betas = graph.add_many(
        "Scan",
        [label, beta, pointers, logits, moves],
        4,
        body=_backward_body(graph, crf),
        num_scan_inputs=3,
        scan_input_directions=[1, 1, 1],
        scan_output_directions=[1, 1],
    )
    marginals = graph.add("Softmax", graph.add("Add", alphas, betas), axis=-1)
    labels = graph.add("Squeeze", labels, graph.constant([2], "int64"))
    return Decoded(graph.transpose(labels, (1, 0)), graph.transpose(marginals, (1, 0, 2)))


def _moves(graph: GraphBuilder, logits: str, lengths: str) -> str:
    """Which words are reached from the one before, bool [T, B, 1]: neither first nor padding."""
    time = graph.add("Squeeze", graph.add("Shape", logits, start=0, end=1))
    zero, one = graph.constant(0, "int64"), graph.constant(1, "int64")
    steps = graph.reshape(graph.add("Range", zero, time, one), (-1, 1, 1))
    rows = graph.reshape(graph.add("Cast", lengths, to=INT64), (1, -1, 1))
    return graph.add("And", graph.add("Greater", steps, zero), graph.add("Less", steps, rows))


def _forward_body(outer: GraphBuilder, crf: LinearChainCRF) -> onnx.GraphProto:
    """(delta, alpha, logits_t, moves_t) -> (delta, alpha, pointers_t, alpha_t)."""
    graph, N = outer.inner("crf_forward_"), crf.transitions.shape[0]
    delta, alpha, logits = (
        graph.input(f"crf_{name}", "float32", ("batch", N)) for name in ("delta", "alpha", "now")
    )
    moves = graph.input("crf_moves", "bool", ("batch", 1))
    transitions = graph.constant(to_numpy(crf.transitions), name=TRANSITIONS)
    last, axis = graph.constant([2], "int64"), graph.constant([1], "int64")

    def spread(value: str) -> str:
        """[B, N] to [B, N, N] of every way, from and to."""
        return graph.add("Add", graph.add("Unsqueeze", value, last), transitions)

    ways = spread(delta)
    best = graph.add("Add", graph.add("ReduceMax", ways, axis, keepdims=0), logits)
    best = graph.add("Sub", best, graph.add("ReduceMax", best, axis, keepdims=1))
    summed = graph.add("ReduceLogSumExp", spread(alpha), axis, keepdims=0)
    likely = graph.add("LogSoftmax", graph.add("Add", summed, logits), axis=-1)
    stay = graph.constant([list(range(N))], "int64")
    pointers = graph.add("Where", moves, graph.add("ArgMax", ways, axis=1, keepdims=0), stay)
    new_alpha = graph.add("Where", moves, likely, alpha)
    states = ((graph.add("Where", moves, best, delta), "delta"), (new_alpha, "alpha"))
    for value, name in states:
        graph.output(value, f"crf_new_{name}", "float32", ("batch", N))
    graph.output(pointers, "crf_pointers", "int64", ("batch", N))
    graph.output(new_alpha, "crf_alphas", "float32", ("batch", N))
    return graph.body("crf_forward")


def _backward_body(outer: GraphBuilder, crf: LinearChainCRF) -> onnx.GraphProto:
    """(label, beta, pointers_t, logits_t, moves_t) -> (label, beta, label_t, beta_t)."""
    graph, N = outer.inner("crf_backward_"), crf.transitions.shape[0]
    label = graph.input("crf_label", "int64", ("batch", 1))
    beta = graph.input("crf_beta", "float32", ("batch", N))
    pointers = graph.input("crf_back", "int64", ("batch", N))
    logits = graph.input("crf_here", "float32", ("batch", N))
    moves = graph.input("crf_moved", "bool", ("batch", 1))
    axis = graph.constant([1], "int64")
    onward = graph.add("Unsqueeze", graph.add("Add", logits, beta), axis)
    ways = graph.add("Add", onward, graph.constant(to_numpy(crf.transitions), name=TRANSITIONS))
    summed = graph.add("ReduceLogSumExp", ways, graph.constant([2], "int64"), keepdims=0)
    before = graph.add("GatherElements", pointers, label, axis=1)
    new_beta = graph.add("Where", moves, graph.add("LogSoftmax", summed, axis=-1), beta)
    graph.output(graph.add("Where", moves, before, label), "crf_new_label", "int64", ("batch", 1))
    graph.output(new_beta, "crf_new_beta", "float32", ("batch", N))
    graph.output(label, "crf_labels", "int64", ("batch", 1))
    graph.output(beta, "crf_betas", "float32", ("batch", N))
    return graph.body("crf_backward")
