"""Compiles the kernels on first use, into a cache folder.

One source file, one call of the compiler, and the finished library is moved
into its place in one step: processes that start together may build the same
library twice, but never read half of one, and none waits for a lock that a
killed process left behind.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import torch

SOURCES = Path(__file__).parent
CACHE_VARIABLE = "TIDEGATE_CACHE"
SWITCH_VARIABLE = "TIDEGATE_KERNELS"
BUILD_SECONDS = 600

_lock = threading.Lock()
_available: bool | None = None


class BuildError(RuntimeError):
    """The kernels could not be compiled or loaded."""


def is_available() -> bool:
    """Whether the kernels are there; compiles and loads them at the first call.

    Warns once if they cannot be built: the readable path then does all the
    work. ``TIDEGATE_KERNELS=0`` asks for the readable path, without a warning.
    """
    global _available
    with _lock:
        if _available is None:
            _available = os.environ.get(SWITCH_VARIABLE) != "0" and _is_loaded()
        return _available


def _is_loaded() -> bool:
    try:
        load()
    except (BuildError, OSError) as error:
        warnings.warn(
            f"the native kernels could not be built, so training is several times slower: {error}. "
            "Install a C++ compiler (Debian: apt install g++; macOS: xcode-select --install), or "
            f"set CXX to one; {SWITCH_VARIABLE}=0 silences this",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def load() -> None:
    """Loads the kernels into torch, from the cache or compiled anew.

    Raises:
        BuildError: there is no compiler, it failed, or its product does not load.
        OSError: the cache folder cannot be written.
    """
    library = _cached() or _compile()
    try:
        torch.ops.load_library(library)  # type: ignore[no-untyped-call] # torch's own
    except OSError as error:
        library.unlink(missing_ok=True)
        reason = error.__cause__ or error
        raise BuildError(f"what {_compiler()} built does not load: {reason}") from error


def library_prefix() -> Path:
    """How the cached library's path begins: by all that its content depends on."""
    root = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tidegate"
    parts = (torch.__version__, _compiler(), *_flags(), _processor())
    content = hashlib.sha256("\0".join(parts).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in (".cpp", ".h"):
            content.update(source.read_bytes())
    return Path(root) / "kernels" / content.hexdigest()[:16]


def _cached() -> Path | None:
    """The library, if one is whole: to map a file that was cut short kills the process."""
    prefix = library_prefix()
    for path in sorted(prefix.parent.glob(f"{prefix.name}-*.so")):
        if path == _path_of(path):
            return path
        path.unlink(missing_ok=True)
    return None


def _path_of(library: Path) -> Path:
    """Where a library of this content belongs: its name ends with its checksum."""
    prefix = library_prefix()
    checksum = hashlib.sha256(library.read_bytes()).hexdigest()[:16]
    return prefix.with_name(f"{prefix.name}-{checksum}.so")


def _compile() -> Path:
    folder = library_prefix().parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as temporary:
        product = Path(temporary) / "kernels.so"
        source = str(SOURCES / "operators.cpp")
        command = [_compiler(), *_flags(), source, "-o", str(product), *_libraries()]
        try:
            result = subprocess.run(  # noqa: S603 # the user's own compiler
                command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
            )
        except FileNotFoundError as error:
            raise BuildError(f"there is no C++ compiler {_compiler()!r}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"the compiler did not run: {error}") from error
        if result.returncode != 0:
            last = (result.stderr.strip() or "no message").splitlines()[-1]
            raise BuildError(f"{_compiler()} failed with status {result.returncode}: {last}")
        return product.replace(_path_of(product))


def _compiler() -> str:
    return os.environ.get("CXX") or "c++"


def _flags() -> tuple[str, ...]:
    include = Path(torch.__file__).parent / "include"
    return (
        "-std=c++20",
        "-O3",
        *_processor_flags(),
        # No errno and no traps: they keep a compiler from vectorizing the gates.
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fopenmp-simd",
        "-fPIC",
        "-shared",
        f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        # Apple's compiler has no OpenMP: there the same code runs on one thread.
        *(() if sys.platform == "darwin" else ("-fopenmp",)),
    )


def _processor_flags() -> tuple[str, ...]:
    if platform.machine() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    # Compilers halve the vectors of processors that they know to slow down with whole ones.
    return "-march=native", "-mprefer-vector-width=512"


def _libraries() -> tuple[str, ...]:
    """Torch is in the process already; on Linux its libraries are named nevertheless."""
    if sys.platform == "darwin":
        return "-undefined", "dynamic_lookup"
    return f"-L{Path(torch.__file__).parent / 'lib'}", "-ltorch_cpu", "-lc10"


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fixed = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(line for line in lines if line.split("\t")[0].split(":")[0].strip() in fixed)
