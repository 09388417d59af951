"""The kernels in a wheel: compiled where it is built, used where there is no compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.train.kernels import prebuilt

ROOT = Path(__file__).parents[2]
PROGRAM = """
import torch
from tidegate.train import Recurrent, Zoneout
from tidegate.train.kernels import build
torch.manual_seed(3)
model = Recurrent("lstm", 3, 40, regularizers=[Zoneout()], dtype=torch.float64)
output, _ = model(torch.ones(2, 5, 3, dtype=torch.float64))
output.sum().backward()
print(build.__file__, build.is_available())
print(output.sum().item(), model.weight_hh_l0.grad.sum().item())
"""


def build_wheel(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Verbose, for what the build says.
    command = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-index"]
    return subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_from(installed: Path, **environment: str) -> tuple[list[str], str]:
    """What the program prints from an installed wheel, on a machine without a compiler."""
    bare = {"PATH": "/nonexistent", "PYTHONPATH": str(installed), "HOME": str(installed / "home")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=bare | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = build_wheel(folder, TIDEGATE_KERNELS="1")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith("tidegate-")
    assert "-py3-none-linux_" in wheel.name or "-py3-none-macosx_" in wheel.name
    target = folder / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_trains_on_its_kernels_without_a_compiler(installed: Path) -> None:
    (where, numbers), errors = run_from(installed)

    assert where == f"{installed}/tidegate/train/kernels/build.py True"
    assert errors == ""
    assert not (installed / "home").exists()
    (_, readable), _ = run_from(installed, TIDEGATE_KERNELS="0")
    assert [float(one) for one in numbers.split()] == pytest.approx(
        [float(one) for one in readable.split()], rel=1e-12
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_a_lesser_processor_finds_kernels_too(installed: Path, capability: str) -> None:
    (_, numbers), _ = run_from(installed)

    (where, others), errors = run_from(installed, ATEN_CPU_CAPABILITY=capability)

    assert where.endswith(" True")
    assert errors == ""
    assert [float(one) for one in others.split()] == pytest.approx(
        [float(one) for one in numbers.split()], rel=1e-12
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_for_another_torch_are_left_alone(installed: Path, tmp_path: Path) -> None:
    kernels = installed / "tidegate" / "train" / "kernels"
    for library in (kernels / "prebuilt").iterdir():
        library.rename(library.with_name(library.name.replace("torch-", "torch-0.")))
    try:
        (where, _), errors = run_from(installed, TIDEGATE_CACHE=str(tmp_path))
    finally:
        for library in (kernels / "prebuilt").iterdir():
            library.rename(library.with_name(library.name.replace("torch-0.", "torch-")))

    assert where.endswith(" False")
    assert errors.count("RuntimeWarning") == 1
    assert "there is no C++ compiler" in errors


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_pure_and_its_build_says_so(tmp_path: Path) -> None:
    built = build_wheel(tmp_path, CXX="/nonexistent/c++", TIDEGATE_KERNELS="")

    assert built.returncode == 0, built.stderr
    assert [wheel.name.split("-", 2)[2] for wheel in tmp_path.glob("*.whl")] == ["py3-none-any.whl"]
    said = built.stdout + built.stderr
    assert "The wheel is pure Python, its kernels are compiled on first use" in said
    assert "there is no C++ compiler '/nonexistent/c++'" in said


@pytest.mark.slow
def test_a_wheel_that_must_have_kernels_is_not_built_without(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    built = build_wheel(
        tmp_path, CXX="/nonexistent/c++", TIDEGATE_KERNELS="1", TMPDIR=str(temporary)
    )

    assert built.returncode != 0
    assert "there is no C++ compiler '/nonexistent/c++'" in built.stdout + built.stderr
    assert list(temporary.iterdir()) == []


def test_a_wheels_kernels_are_those_of_this_torch_and_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(capability: str) -> str | None:
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
        library = prebuilt.find()
        return None if library is None else library.name.rpartition("-")[2]

    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    assert found("AVX2") is None
    for capability in ("DEFAULT", "AVX2", "AVX512"):
        (tmp_path / prebuilt.name_of(capability)).touch()

    assert (found("AVX512"), found("AVX2")) == ("avx512.so", "avx2.so")
    assert found("a kind without kernels of its own") == "default.so"
    monkeypatch.setattr("torch.__version__", "2.99.0")
    assert found("AVX2") is None
