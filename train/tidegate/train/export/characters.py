"""The network over a word's characters as graph nodes.

Dimensions: B batch (sentences), T time (words), C characters, N = B * T, E
embedding, L layers, D directions, H hidden.
"""

from tidegate.train.characters import CharacterEncoder
from tidegate.train.export.graph import INT32, GraphBuilder
from tidegate.train.export.joints import STATE_NAMES
from tidegate.train.export.layers import add_stack
from tidegate.train.export.weights import to_numpy
from tidegate.train.recurrent import Recurrent

# Before the names of all weights of the network.
SCOPE = "characters_"


def add_characters(graph: GraphBuilder, encoder: CharacterEncoder, chars: str) -> str:
    """Adds the network; a word's length is its number of ids that are not 0.

    Args:
        graph: to add to.
        encoder: the network.
        chars: int64 [B, T, C].

    Returns:
        [B, T, D * H].
    """
    recurrent = encoder.recurrent
    shape = graph.add("Shape", chars)
    rows = graph.constant([-1], "int64")
    longest = graph.add("Gather", shape, graph.constant([2], "int64"))
    flat = graph.add("Reshape", chars, graph.add("Concat", rows, longest, axis=0))
    lengths = _lengths(graph, flat)
    table = graph.constant(to_numpy(encoder.embedding.weight), name=f"{SCOPE}embedding")
    x = graph.transpose(graph.add("Gather", table, flat), (1, 0, 2))
    states = [zero_state(graph, recurrent, lengths)] * len(STATE_NAMES[recurrent.cell])
    with graph.scope(SCOPE):
        _, (h, *_) = add_stack(graph, recurrent, x, lengths, states)
    by_row = graph.transpose(_top(graph, recurrent, h), (1, 0, 2))
    words = graph.add("Gather", shape, graph.constant([0, 1], "int64"))
    width = graph.constant([encoder.output_size], "int64")
    return graph.add("Reshape", by_row, graph.add("Concat", words, width, axis=0))


def zero_state(graph: GraphBuilder, model: Recurrent, lengths: str) -> str:
    """Zeros [L*D, B, H] for as many rows as there are lengths."""
    batch = graph.add("Shape", lengths)
    layers = graph.constant([model.num_layers * model.num_directions], "int64")
    width = graph.constant([model.hidden_size], "int64")
    shape = graph.add("Concat", layers, batch, width, axis=0)
    return graph.add("Expand", graph.constant([[[0.0]]]), shape)


def _lengths(graph: GraphBuilder, flat: str) -> str:
    """Characters of each word, int32 [N]; at least 1, as padding reads one."""
    real = graph.add("Cast", graph.add("Greater", flat, graph.constant(0, "int64")), to=INT32)
    counts = graph.add("ReduceSum", real, graph.constant([1], "int64"), keepdims=0)
    return graph.add("Max", counts, graph.constant(1, "int32"))


def _top(graph: GraphBuilder, recurrent: Recurrent, h: str) -> str:
    """The last layer's part of [L*D, N, H], [D, N, H]."""
    if recurrent.num_layers == 1:
        return h
    first = graph.constant([-recurrent.num_directions], "int64")
    end = graph.constant([recurrent.num_layers * recurrent.num_directions], "int64")
    return graph.add("Slice", h, first, end, graph.constant([0], "int64"))
