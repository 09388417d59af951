"""Runs a command in an interpreter that cannot import some packages."""

import subprocess
import sys
from collections.abc import Sequence

_CODE = """
import importlib.abc, runpy, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {absent!r}):
            raise ModuleNotFoundError(f"{{name}} is blocked by the test", name=name)

sys.meta_path.insert(0, Absent())
sys.argv[1:] = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def run_without(
    absent: Sequence[str], module: str, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module arguments`` where the packages are not installed."""
    code = _CODE.format(absent=list(absent), arguments=list(arguments), module=module)
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)
