"""The CUDA kernels as machine code: whether Triton compiles them, without a device to run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is for Linux on x86-64")

KERNELS = {
    ("draw", "draw"),
    ("gru", "backward"),
    ("gru", "forward"),
    ("gru_reset_before", "backward"),
    ("gru_reset_before", "forward"),
    ("gru_reset_before", "reset"),
    ("gru_reset_before", "reset_backward"),
    ("lstm", "backward"),
    ("lstm", "forward"),
    ("rnn", "backward"),
    ("rnn", "forward"),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_kernel_compiles_for_an_h100(dtype: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "support" / "compile_kernels.py"
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "PYTHONPATH": str(script.parents[1]),
        "TRITON_CACHE_DIR": str(tmp_path),
    }

    result = subprocess.run(
        [sys.executable, script, dtype],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {(module, name) for module, name, _ in lines} == KERNELS
    assert all(int(size) > 0 for *_, size in lines)
