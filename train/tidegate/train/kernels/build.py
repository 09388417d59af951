"""Loads the kernels: those that the wheel brought, or else compiled on first use into a cache.

One source file and one object, and the finished library is moved into its place
in one step: processes that start together may build the same library twice, but
never read half of one, and none waits for a lock that a killed process left
behind.
"""

import hashlib
import os
import platform
import tempfile
import threading
import warnings
from pathlib import Path

import torch

from tidegate.train.kernels import prebuilt
from tidegate.train.kernels.compiler import (
    SOURCES,
    BuildError,
    common_flags,
    compile_library,
    compiler,
    native_flags,
)

CACHE_VARIABLE = "TIDEGATE_CACHE"
SWITCH_VARIABLE = "TIDEGATE_KERNELS"

_lock = threading.Lock()
_available: bool | None = None


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
    """Loads the kernels into torch: the wheel's, from the cache, or compiled anew.

    Raises:
        BuildError: there is no compiler, it failed, or its product does not load.
        OSError: the cache folder cannot be written.
    """
    brought = prebuilt.find()
    if brought is not None and _loads(brought) is None:
        return
    library = _cached() or _compile()
    reason = _loads(library)
    if reason is not None:
        library.unlink(missing_ok=True)
        raise BuildError(f"what {compiler()} built does not load: {reason}") from reason


def library_prefix() -> Path:
    """How the cached library's path begins: by all that its content depends on."""
    root = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tidegate"
    parts = (torch.__version__, compiler(), *common_flags(), *native_flags(), _processor())
    content = hashlib.sha256("\0".join(parts).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in (".cpp", ".h"):
            content.update(source.read_bytes())
    return Path(root) / "kernels" / content.hexdigest()[:16]


def _loads(library: Path) -> BaseException | None:
    """Why a library does not load, or None: it is loaded."""
    try:
        torch.ops.load_library(library)  # type: ignore[no-untyped-call] # torch's own
    except OSError as error:
        return error.__cause__ or error
    return None


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
        compile_library(product, native_flags())
        return product.replace(_path_of(product))


def _processor() -> str:
    """What the flags for this machine's processor depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fixed = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(line for line in lines if line.split("\t")[0].split(":")[0].strip() in fixed)
