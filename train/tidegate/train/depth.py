"""How deep a stack is usual for the data."""

import warnings

# Steps of the training part from which a number of layers is usual, after what is published:
# two layers on short series, three on treebanks, three or four on Penn Treebank's million words.
USUAL_LAYERS = ((100_000, 4), (10_000, 3), (0, 2))


def usual_layers(steps: int) -> int:
    """The most layers that are usual for a training part of so many steps (rows or words)."""
    return next(layers for least, layers in USUAL_LAYERS if steps >= least)


def warn_if_deep(num_layers: int, steps: int) -> None:
    """Warns of a stack that the training part is small for.

    Args:
        num_layers: L.
        steps: rows or words of the training part.
    """
    usual = usual_layers(steps)
    if num_layers > usual:
        warnings.warn(
            f"model.num_layers={num_layers}: for a training part of {steps} steps up to {usual} "
            "recurrent layers are usual; more train slowly and tend to overfit, so compare with "
            f"model.num_layers={usual}",
            UserWarning,
            stacklevel=2,
        )
