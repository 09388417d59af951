"""Compiles the native kernels into the wheel, for every processor of this machine's kind.

That takes a C++ compiler and the torch that the wheel will run with, which an
isolated build does not see: ``pip wheel --no-build-isolation .`` in an
environment with torch and hatchling. Without them the wheel is pure Python, its
build says so, and the kernels are compiled on first use.

``TIDEGATE_KERNELS=1`` makes a wheel without kernels an error, 0 asks for one.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

if TYPE_CHECKING:
    from types import ModuleType

KERNELS = Path("train/tidegate/train/kernels")


class KernelsHook(BuildHookInterface[Any]):
    """Adds the libraries to the wheel, and the platform to its name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles before the wheel is written.

        Args:
            version: "standard", or "editable", whose kernels are compiled on first use.
            build_data: of hatchling; receives the libraries and the wheel's tag.
        """
        switch = os.environ.get("TIDEGATE_KERNELS")
        if version == "editable" or switch == "0":
            return
        folder = Path(tempfile.mkdtemp())
        # The wheel is written after this returns; a build that fails leaves nothing either.
        atexit.register(shutil.rmtree, folder)
        try:
            libraries = self._compile(folder)
        except (ImportError, RuntimeError) as error:
            if switch == "1":
                raise
            self.app.display_warning(
                f"The wheel is pure Python, its kernels are compiled on first use: {error}"
            )
            return
        build_data["force_include"] |= {
            str(library): f"tidegate/train/kernels/prebuilt/{library.name}" for library in libraries
        }
        build_data["pure_python"] = False
        # The kernels know torch and nothing of Python.
        build_data["tag"] = f"py3-none-{_platform()}"
        self.app.display_info(f"The wheel has {len(libraries)} libraries of kernels")

    def _compile(self, folder: Path) -> list[Path]:
        """One library for each kind of processor, in ``folder``.

        Raises:
            ImportError: there is no torch, or no trainer to compile for.
            RuntimeError: there is no compiler, it failed, or the machine is of no known kind.
        """
        compiler, prebuilt = (self._module(name) for name in ("compiler", "prebuilt"))
        variants = compiler.VARIANTS.get(platform.machine())
        if variants is None:
            raise RuntimeError(f"no kernels are made for {platform.machine()} in advance")
        libraries = [folder / prebuilt.name_of(capability) for capability in variants]
        with ThreadPoolExecutor() as pool:
            list(pool.map(compiler.compile_library, libraries, variants.values()))
        return libraries

    def _module(self, name: str) -> ModuleType:
        """A module of the trainer by its file: the package itself needs all that it runs with."""
        path = Path(self.root, KERNELS, f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"_tidegate_{name}", path)
        if spec is None or spec.loader is None or not path.exists():
            raise ImportError(f"there is no {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _platform() -> str:
    """This machine's own, since nobody has checked the libraries for older ones."""
    names = (tag.platform for tag in sys_tags())
    return next(name for name in names if not name.startswith(("manylinux", "musllinux")))
