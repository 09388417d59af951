"""Masks of Monte Carlo inference as inputs of the graph: the caller draws, the graph does not.

A mask that lasts for a sequence makes one network out of the trained one, and the
spread over many networks says how sure the model is (Gal and Ghahramani 2016,
arXiv 1512.05287). Masks on a layer's input and on the top output stand before and
after the plain operator. One on h_{t-1} has no place in it, nor have two of one
input for its two directions: then the graph holds the step and its Scan.

Dimensions: B batch, I input size of the layer, H hidden.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tidegate.train.export.joints import SUFFIXES
from tidegate.train.export.weights import Array, to_numpy
from tidegate.train.masks import Masks
from tidegate.train.rates import rate_at
from tidegate.train.recurrent import Recurrent
from tidegate.train.regularizers import Regularizer, Variational, Zaremba, find

OUTPUT = "mask_output"


class MaskInput(NamedTuple):
    """One mask.

    Attributes:
        name: of the input.
        width: units; the input is [B, width].
        rate: probability to drop a unit.
    """

    name: str
    width: int
    rate: float


def input_name(layer: int, direction: int) -> str:
    """Of the mask on x_t of one layer and direction."""
    return f"mask_input_l{layer}{SUFFIXES[direction]}"


def hidden_name(layer: int, direction: int) -> str:
    """Of the mask on h_{t-1} of one layer and direction."""
    return f"mask_hidden_l{layer}{SUFFIXES[direction]}"


def mask_inputs(recurrent: Recurrent) -> dict[str, MaskInput]:
    """The masks of a network by name; those of rate 0 are not there."""
    return {one.name: one for one in _all_masks(recurrent) if one.rate > 0}


def needs_step(recurrent: Recurrent) -> bool:
    """Whether no plain operator can carry the masks."""
    masks = mask_inputs(recurrent)
    hidden = any(name.startswith("mask_hidden") for name in masks)
    return hidden or (recurrent.bidirectional and bool(masks))


def check_masks(*networks: Recurrent) -> None:
    """Refuses what has no masks that a caller could draw for each row.

    Args:
        networks: of the model; only the first may have masks.

    Raises:
        ValueError: names the method and why.
    """
    main, *others = networks
    for network in networks:
        for method in network.regularizers:
            reason = _refusal(method)
            if reason:
                raise ValueError(f"mc_masks=True with {method.name}: {reason}")
    if any(one.samples_networks for one in others):
        raise ValueError(
            "mc_masks=True with a network over characters that has masks of its own: its rows are "
            "words, and not the rows of the batch. Sample it in PyTorch with monte_carlo"
        )
    if not mask_inputs(main):
        raise ValueError(
            f"mc_masks=True with regularizers={[one.name for one in main.regularizers]}: none of "
            "them has a mask that lasts for a sequence, so there is one network and nothing to "
            "sample. Use variational or zaremba with granularity='sequence', at a rate above 0"
        )


def mask_values(recurrent: Recurrent, masks: Masks) -> dict[str, Array]:
    """Masks of the trainer, such as those of a sampled network, as the graph's inputs."""
    found = {}
    for layer, directions in enumerate(masks.layers):
        for direction, one in enumerate(directions):
            if one.input is not None:
                found[input_name(layer, direction)] = to_numpy(one.input[0, 0])
            if one.hidden is not None:
                found[hidden_name(layer, direction)] = to_numpy(one.hidden[0])
    if masks.output is not None:
        found[OUTPUT] = to_numpy(masks.output[0, 0])
    return {name: found[name] for name in mask_inputs(recurrent)}


def _all_masks(recurrent: Recurrent) -> Iterator[MaskInput]:
    method = find(recurrent.regularizers, Zaremba) or find(recurrent.regularizers, Variational)
    if method is None or not method.per_sequence:
        return
    for layer in range(recurrent.num_layers):
        for direction in range(recurrent.num_directions):
            width, rate = recurrent.layer_input_size(layer), rate_at(method.p, layer, direction)
            yield MaskInput(input_name(layer, direction), width, rate)
            if isinstance(method, Variational):
                rate = rate_at(method.recurrent_p, layer, direction)
                yield MaskInput(hidden_name(layer, direction), recurrent.hidden_size, rate)
    yield MaskInput(OUTPUT, recurrent.output_size, method.output_rate)


def _refusal(method: Regularizer) -> str:
    if not method.per_sequence or not any(method.rates.values()):
        return ""
    if isinstance(method, Variational):
        return "" if method.tied else "tied=False has a mask, and so a product, for each gate"
    if isinstance(method, Zaremba):
        return ""
    return (
        "its masks are on weights, on words or inside the cell, where a graph of products has no "
        "[batch, units] input for them. Sample it in PyTorch with monte_carlo"
    )
