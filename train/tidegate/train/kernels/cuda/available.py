"""Whether the CUDA kernels can run here."""

import functools
import importlib.util
import os
import warnings

from tidegate.train.kernels.build import SWITCH_VARIABLE


@functools.cache
def is_available() -> bool:
    """Whether Triton is there; torch's builds with CUDA bring it along.

    Warns once if it is not: the readable path then does all the work.
    ``TIDEGATE_KERNELS=0`` asks for the readable path, without a warning.
    """
    if os.environ.get(SWITCH_VARIABLE) == "0":
        return False
    if importlib.util.find_spec("triton") is not None:
        return True
    warnings.warn(
        "Triton is not installed, so training on CUDA is many times slower; install the version "
        f"that this build of torch names (pip show torch); {SWITCH_VARIABLE}=0 silences this",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
