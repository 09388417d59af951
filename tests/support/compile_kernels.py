"""Compiles the CUDA kernels, as passes would launch them, to machine code for an H100.

Run as a program: Triton decides once whether a process interprets kernels. Prints
the name of each kernel with the bytes of its code.
"""

import sys
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from support.layers import problem, run
from support.recurrent_cases import FLAVOURS, fits, regularizers
from tidegate.train.kernels.cuda import layer
from tidegate.train.kernels.cuda.pointwise import draw
from tidegate.train.kernels.cuda.recurrent_layer import recurrent_layer

TYPES = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
}
METHODS = ("zaremba", "zaremba+semeniuta+rnndrop", "zoneout", "variational+weight_drop-per-example")


def compile_for(kernel: Any, arguments: dict[str, Any]) -> None:
    """Compiles one kernel for arguments of these kinds."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for name in kernel.arg_names:
        value = arguments[name]
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
        elif value is None or name.isupper():
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, float):
            signature[name] = "fp64"
        else:
            signature[name] = "i64" if value >= 2**31 else "i32"
    source = ASTSource(kernel, signature, constants)
    compiled = compile_kernel(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.fn.__module__.rpartition(".")[2], kernel.fn.__name__, len(compiled.asm["cubin"]))


def launch(self: layer.Pass, kernel: Any, t: int, **arguments: Any) -> None:
    """In the place of a launch."""
    elements = self.batch * self.size
    rest = {"lengths": self.inputs.lengths, "t": t, "elements": elements, "size": self.size}
    compile_for(kernel, arguments | rest | {"BLOCK": layer.BLOCK})


def main(dtype: torch.dtype) -> None:
    """Compiles every kernel for gates of a dtype."""
    for case in FLAVOURS:
        for index, method in enumerate(METHODS):
            if fits(case, regularizers(method)):
                # Backwards over ragged rows, or forwards over full ones.
                flag = index % 2 == 0
                one = problem(
                    case, method, reverse=flag, ragged=flag, dtype=torch.float32, sizes=(2, 3, 2, 4)
                )
                with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                    run(one, recurrent_layer)
    tensors = {"factors": torch.empty(0, dtype=dtype), "samples": torch.empty(0).long()}
    numbers = {"key": 2**62, "threshold": 1, "dropped": 0.0, "kept": 2.0}
    sizes = {"batch": 1, "units": 1, "blocks": 1, "BLOCK": 1024}
    compile_for(draw.draw, tensors | numbers | sizes)


if __name__ == "__main__":
    # Nothing here can run one.
    with mock.patch.object(layer.Pass, "launch", launch):
        main(getattr(torch, sys.argv[1]))
