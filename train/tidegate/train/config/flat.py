"""A configuration as MLflow's flat parameters."""

from collections.abc import Mapping, Sequence
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Pairs of dotted names and values as text; tables in lists are written as calls."""
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pairs.append((f"{prefix}{key}", ", ".join(_item(one) for one in value)))
        else:
            pairs.append((f"{prefix}{key}", "" if value is None else str(value)))
    return pairs


def _item(value: object) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    arguments = ", ".join(f"{k}={v}" for k, v in value.items() if k != "name")
    return f"{value['name']}({arguments})"
