"""A labeller of words.

Legend: T time, B batch, H hidden, D directions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from support.onnx_models.graph import GraphBuilder
from tidegate.v1 import model_spec_pb2 as pb

WORDS = ("<padding>", "<unknown>", "the", "dog", "barks", "at", "a", "cat", "that", "sleeps")
LABELS = ("O", "NOUN", "VERB")


def labeller(
    *,
    seed: int = 0,
    hidden: int = 8,
    embedding: int = 6,
    lower_case: bool = True,
    bidirectional: bool = True,
    characters: bool = False,
) -> onnx.ModelProto:
    """An LSTM over words, one label for each; with characters, over their number too."""
    graph = GraphBuilder(seed)
    spec = pb.ModelSpec(
        spec_version=1,
        task=pb.TASK_LABELLING,
        direction=pb.DIRECTION_BIDIRECTIONAL if bidirectional else pb.DIRECTION_CAUSAL,
        network=pb.Network(cell=pb.CELL_LSTM, num_layers=1, hidden_size=hidden, merge="concat"),
        labelling=pb.LabellingSpec(label_names=LABELS, words=WORDS, lower_case=lower_case),
        contract=pb.INFERENCE_CONTRACT_IDENTITY,
    )
    tokens = ["batch", "time"]
    spec.inputs.add(name="tokens", dtype="int64", shape=[-1, -1], axes=tokens)
    spec.inputs.add(name="lengths", dtype="int32", shape=[-1], axes=["batch"])
    spec.outputs.add(name="labels", dtype="int64", shape=[-1, -1], axes=tokens)
    spec.outputs.add(
        name="probabilities",
        dtype="float32",
        shape=[-1, -1, len(LABELS)],
        axes=[*tokens, "labels"],
    )
    directions = 1 + bidirectional
    table = graph.weights("embedding", len(WORDS), embedding)
    x = graph.add("Gather", [table, "tokens"], "embedded")
    if characters:
        x = _with_characters(graph, spec, x)
        embedding += 1
    graph.add("Transpose", [x], "x_time_major", perm=[1, 0, 2])
    y, _ = graph.recurrent(
        "lstm", 0, "x_time_major", embedding, hidden, [], bidirectional=bidirectional
    )
    graph.add("Transpose", [y], "y_batch_major", perm=[2, 0, 1, 3])  # [B, T, D, H]
    shape = graph.constant("y_shape", np.array([0, 0, directions * hidden], np.int64))
    graph.add("Reshape", ["y_batch_major", shape], "merged")
    graph.add("MatMul", ["merged", graph.weights("head", directions * hidden, len(LABELS))], "z")
    graph.add("Softmax", ["z"], "probabilities", axis=-1)
    graph.add("ArgMax", ["probabilities"], "labels", axis=-1, keepdims=0)
    return graph.model(spec)


def _with_characters(graph: GraphBuilder, spec: pb.ModelSpec, embedded: str) -> str:
    """Appends the sum of a word's character ids to its embedding."""
    spec.labelling.characters.characters.extend(("<padding>", "<unknown>", *"abcde"))
    spec.labelling.characters.max_characters = 4
    axes = ["batch", "time", "characters"]
    spec.inputs.add(name="chars", dtype="int64", shape=[-1, -1, -1], axes=axes)
    axis = graph.constant("characters_axis", np.array([-1], np.int64))
    graph.add("ReduceSum", ["chars", axis], "sum", keepdims=1)
    graph.add("Cast", ["sum"], "sum_float", to=TensorProto.FLOAT)
    return graph.add("Concat", [embedded, "sum_float"], "embedded_characters", axis=-1)
