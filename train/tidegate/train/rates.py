"""Rates of a regularizer: one for the whole network, or its own for each layer and direction."""

import re
from collections.abc import Mapping
from typing import TypeAlias

# One number for every layer; or an entry for each layer, a number for both
# directions or a pair (forward, reverse).
Rate: TypeAlias = float | tuple[float | tuple[float, float], ...]

# torch.nn's endings of a layer's and direction's own numbers.
_PLACE = re.compile(r"(?P<name>.+)_l(?P<layer>\d+)(?P<reverse>_reverse)?")


def as_rate(name: str, value: object) -> Rate:
    """Checks a rate; lists, as TOML and JSON have them, become tuples.

    Raises:
        ValueError: an entry is no probability, or the nesting is not that of a rate.
    """
    if not isinstance(value, list | tuple):
        return _probability(name, value)
    if not value:
        raise ValueError(f"{name}={value!r} is empty; give a number, or one entry for each layer")
    return tuple(_entry(f"{name}[{layer}]", entry) for layer, entry in enumerate(value))


def rate_at(rate: Rate, layer: int, direction: int) -> float:
    """The rate of a layer (from 0) and direction (0 forward, 1 reverse)."""
    if not isinstance(rate, tuple):
        return rate
    entry = rate[layer]
    return entry[direction] if isinstance(entry, tuple) else entry


def is_zero(rate: Rate) -> bool:
    """Whether nothing is ever dropped."""
    return not any(named("p", rate).values())


def named(name: str, rate: Rate) -> dict[str, float]:
    """The numbers by name, with torch.nn's endings where layers or directions differ.

    ``0.5`` is ``{"p": 0.5}``, ``(0.1, (0.2, 0.3))`` is ``{"p_l0": 0.1, "p_l1": 0.2,
    "p_l1_reverse": 0.3}``.
    """
    if not isinstance(rate, tuple):
        return {name: rate}
    numbers: dict[str, float] = {}
    for layer, entry in enumerate(rate):
        forward, *reverse = entry if isinstance(entry, tuple) else (entry,)
        numbers[f"{name}_l{layer}"] = forward
        numbers |= {f"{name}_l{layer}_reverse": one for one in reverse}
    return numbers


def from_named(numbers: Mapping[str, float]) -> dict[str, Rate]:
    """The rates by argument name: the inverse of :func:`named`, for several rates at once."""
    rates: dict[str, Rate] = {}
    layered: dict[str, dict[tuple[int, bool], float]] = {}
    for key, number in numbers.items():
        place = _PLACE.fullmatch(key)
        if place is None:
            rates[key] = number
        else:
            at = int(place["layer"]), place["reverse"] is not None
            layered.setdefault(place["name"], {})[at] = number
    for name, entries in layered.items():
        layers = 1 + max(layer for layer, _ in entries)
        rates[name] = tuple(
            (entries[layer, False], entries[layer, True])
            if (layer, True) in entries
            else entries[layer, False]
            for layer in range(layers)
        )
    return rates


def check_shape(
    method: str, rates: Mapping[str, Rate], *, num_layers: int, bidirectional: bool
) -> None:
    """Checks that rates fit a network.

    Raises:
        ValueError: their layers are not the network's, or there is a rate for a
            direction that it does not have.
    """
    for name, rate in rates.items():
        if not isinstance(rate, tuple):
            continue
        if len(rate) != num_layers:
            raise ValueError(
                f"{method}: {name}={rate!r} has {len(rate)} entries and num_layers={num_layers}; "
                "give one number, or one entry for each layer"
            )
        if not bidirectional and any(isinstance(entry, tuple) for entry in rate):
            raise ValueError(
                f"{method}: {name}={rate!r} has a pair (forward, reverse) and the network one "
                "direction; give each layer a number, or set bidirectional=True"
            )


def _entry(name: str, value: object) -> float | tuple[float, float]:
    if not isinstance(value, list | tuple):
        return _probability(name, value)
    if len(value) != 2:
        raise ValueError(
            f"{name}={value!r} has {len(value)} entries; give a number, or a pair "
            "(forward, reverse)"
        )
    return _probability(f"{name}[0]", value[0]), _probability(f"{name}[1]", value[1])


def _probability(name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:  # type: ignore[operator]  # just found a number
        raise ValueError(f"{name}={value!r} is not a probability; give a value from 0 to 1")
    return value  # type: ignore[return-value]  # likewise
