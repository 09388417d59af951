"""Turns each kind of model into a graph.

Dimensions: B batch, T time, L layers, D directions, H hidden.
"""

from torch import nn

from tidegate.train.export.forecasting import build_forecaster
from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.joints import state_inputs, state_outputs
from tidegate.train.export.labelling import build_labeller
from tidegate.train.export.language_model import build_language_model
from tidegate.train.export.layers import add_stack
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.recurrent import Recurrent

_TIME_MAJOR = (1, 0, 2)


def build_graph(
    model: nn.Module, *, mc_masks: bool = False, folds_scale: bool = True
) -> GraphBuilder:
    """The graph of any model.

    Args:
        model: that is exported.
        mc_masks: whether masks of Monte Carlo inference are inputs.
        folds_scale: whether a forecaster's first weights read raw units.

    Raises:
        TypeError: the model is of another kind.
    """
    graph = GraphBuilder(mc_masks=mc_masks, folds_scale=folds_scale)
    if isinstance(model, Forecaster):
        return build_forecaster(model, graph)
    if isinstance(model, Labeller):
        return build_labeller(model, graph)
    if isinstance(model, LanguageModel):
        return build_language_model(model, graph)
    if isinstance(model, Recurrent):
        return build_recurrent(model, graph)
    raise TypeError(
        f"model is a {type(model).__name__}; export_onnx takes one of Recurrent, Forecaster, "
        "Labeller, LanguageModel"
    )


def build_recurrent(model: Recurrent, graph: GraphBuilder) -> GraphBuilder:
    """x, lengths and states in; output and the next states out."""
    x = graph.input("x", "float32", ("batch", "time", model.input_size))
    lengths = graph.input("lengths", "int32", ("batch",))
    states = state_inputs(graph, model)
    y, new = add_stack(graph, model, graph.transpose(x, _TIME_MAJOR), lengths, states)
    output = graph.transpose(y, _TIME_MAJOR)
    graph.output(output, "output", "float32", ("batch", "time", model.output_size))
    state_outputs(graph, model, new)
    return graph
