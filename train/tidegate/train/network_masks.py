"""The masks of all layers and directions, in training and in evaluation.

Dimensions: T time, B batch, D directions.
"""

from collections.abc import Callable, Sequence

from tidegate.train.mask_sampler import MaskSampler, Place
from tidegate.train.masks import LayerMasks, Masks, expectation
from tidegate.train.regularizers import Regularizer, Zoneout, find

# By layer and direction.
Places = tuple[tuple[Place, ...], ...]


def draw(
    sampler: MaskSampler, regularizers: Sequence[Regularizer], places: Places, output_size: int
) -> Masks:
    """Draws what the regularizers ask for."""
    layers = _each(places, lambda place: sampler.layer(regularizers, place))
    output = sampler.output(regularizers, num_layers=len(places), width=output_size)
    return layers._replace(output=output)


def expected(regularizers: Sequence[Regularizer], places: Places) -> Masks:
    """Those of evaluation: zoneout's rates, or none."""
    return _each(places, lambda place: _expected(regularizers, place))


def sampled(
    sampler: MaskSampler, regularizers: Sequence[Regularizer], places: Places, output_size: int
) -> Masks:
    """Draws the masks per sequence of one network; what is per step is as in evaluation."""
    lasting = [one for one in regularizers if one.per_sequence]
    drawn = draw(sampler, lasting, places, output_size)

    def with_zones(place: Place) -> LayerMasks:
        zones = _expected(regularizers, place)
        return drawn.layers[place.layer][place.direction]._replace(
            zone_cell=zones.zone_cell, zone_hidden=zones.zone_hidden
        )

    return _each(places, with_zones)._replace(output=drawn.output)


def _each(places: Places, masks: Callable[[Place], LayerMasks]) -> Masks:
    return Masks(tuple(tuple(masks(place) for place in layer) for layer in places))


def _expected(regularizers: Sequence[Regularizer], place: Place) -> LayerMasks:
    zoneout = find(regularizers, Zoneout)
    if zoneout is None:
        return LayerMasks()
    return expectation(zoneout, place.cell, place.layer, place.direction)
