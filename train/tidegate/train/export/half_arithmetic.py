"""A model that computes as a float16 file may on a GPU, for the task's metric.

ONNX Runtime's CPU provider runs recurrent operators in float32 between Casts, so that a
score of the file there says too little. PyTorch rounds each step's state to float16.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tidegate.train.export.contract import zones
from tidegate.train.export.spec import networks_of


def computes_in_half(model: nn.Module) -> bool:
    """Whether any network of the model is plain operators."""
    return any(zones(network) is None for network in networks_of(model))


def with_half_arithmetic(model: nn.Module) -> nn.Module:
    """A copy whose networks of plain operators compute in float16, with float32 around them.

    Its first parameters are float16: give its inputs in float32.
    """
    halved = copy.deepcopy(model)
    for network in networks_of(halved):
        if zones(network) is None:
            network.half()
            network.register_forward_pre_hook(_to_half, with_kwargs=True)
            network.register_forward_hook(_to_float)
    return halved


def _to_half(_network: nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 # hook's
    return _cast(args, torch.float16), _cast(kwargs, torch.float16)


def _to_float(_network: nn.Module, _args: Any, outputs: Any) -> Any:  # noqa: ANN401 # hook's
    return _cast(outputs, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 # nested tensors
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(one, dtype) for key, one in value.items()}
    return tuple(_cast(one, dtype) for one in value) if isinstance(value, tuple) else value
