"""Runs a command in an interpreter that cannot import some packages."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ABSENT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {absent!r}):
            raise ModuleNotFoundError(f"{{name}} is blocked by the test", name=name)

sys.meta_path.insert(0, Absent())
"""
_MODULE = """
import runpy
sys.argv[1:] = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def run_without(
    absent: Sequence[str], module: str, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module arguments`` where the packages are not installed."""
    code = _MODULE.format(arguments=list(arguments), module=module)
    return run_code_without(absent, code, Path.cwd())


def run_code_without(
    absent: Sequence[str], code: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder where the packages are not installed."""
    command = [sys.executable, "-W", "error", "-c", _ABSENT.format(absent=list(absent)) + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
