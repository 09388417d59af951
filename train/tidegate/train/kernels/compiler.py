"""The call of the C++ compiler, and the flags for this processor or for a whole kind.

Needs torch and nothing else of ours: the wheel's build reads this file alone.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

SOURCES = Path(__file__).parent
BUILD_SECONDS = 600
# Compilers halve the vectors of processors that they know to slow down with whole ones.
_WHOLE_VECTORS = "-mprefer-vector-width=512"

# What a wheel holds for each kind of processor. The names are those of
# torch.backends.cpu.get_cpu_capability, and the flags ask of a processor no more than
# torch does before it says that name.
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "DEFAULT": (),
        "AVX2": ("-mavx2", "-mfma"),
        "AVX512": (
            "-mavx2",
            "-mfma",
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            _WHOLE_VECTORS,
        ),
    },
    # Every one of these has the vectors that the kernels use.
    "arm64": {"DEFAULT": ()},
    "aarch64": {"DEFAULT": ()},
}


class BuildError(RuntimeError):
    """The kernels could not be compiled or loaded."""


def compiler() -> str:
    """``CXX``, or ``c++``."""
    return os.environ.get("CXX") or "c++"


def native_flags() -> tuple[str, ...]:
    """For the processor of this machine and no other."""
    if platform.machine() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    return "-march=native", _WHOLE_VECTORS


def common_flags() -> tuple[str, ...]:
    """For any processor, against the torch that is imported."""
    include = Path(torch.__file__).parent / "include"
    return (
        "-std=c++20",
        "-O3",
        # No errno and no traps: they keep a compiler from vectorizing the gates.
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fopenmp-simd",
        "-fPIC",
        f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        # Apple's compiler has no OpenMP: there the same code runs on one thread.
        *(() if sys.platform == "darwin" else ("-fopenmp",)),
    )


def compile_library(product: Path, processor_flags: Sequence[str]) -> None:
    """Compiles the kernels.

    Args:
        product: the shared library to write.
        processor_flags: from :data:`VARIANTS` or :func:`native_flags`.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = str(Path(folder) / "operators.o")
        source = str(SOURCES / "operators.cpp")
        _run([*common_flags(), *processor_flags, "-c", source, "-o", compiled])
        # Apart, so that OpenMP's runtime is not linked: torch has loaded its own.
        _run(["-shared", compiled, "-o", str(product), *_libraries()])


def _run(arguments: Sequence[str]) -> None:
    try:
        result = subprocess.run(  # noqa: S603 # the user's own compiler
            [compiler(), *arguments],
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildError(f"there is no C++ compiler {compiler()!r}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler did not run: {error}") from error
    if result.returncode != 0:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise BuildError(f"{compiler()} failed with status {result.returncode}: {last}")


def _libraries() -> tuple[str, ...]:
    """Torch is in the process already; on Linux its libraries are named nevertheless."""
    if sys.platform == "darwin":
        return "-undefined", "dynamic_lookup"
    return f"-L{Path(torch.__file__).parent / 'lib'}", "-ltorch_cpu", "-lc10"
