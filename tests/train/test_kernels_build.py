"""How the kernels are built and cached, and what happens where they cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.train.kernels import build
from tidegate.train.kernels.compiler import BuildError

PROGRAM = """
import torch
from tidegate.train import Recurrent, Zoneout
from tidegate.train.kernels import build
torch.manual_seed(3)
for _ in range(2):
    model = Recurrent("gru", 3, 4, regularizers=[Zoneout()], dtype=torch.float64)
    output, _ = model(torch.ones(2, 5, 3, dtype=torch.float64))
    output.sum().backward()
    print(f"{output.sum().item():.12f} {model.weight_hh_l0.grad.sum().item():.12f}")
print(build.is_available())
"""


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return output.splitlines(), errors


@pytest.mark.slow
def test_without_a_compiler_there_is_one_warning_and_the_same_numbers(tmp_path: Path) -> None:
    *numbers, available = finish(start())[0]

    bare = start(CXX="/nonexistent/c++", TIDEGATE_CACHE=str(tmp_path))
    (*others, unavailable), errors = finish(bare)

    assert (available, unavailable) == ("True", "False")
    assert others == numbers
    assert errors.count("RuntimeWarning") == 1
    assert "there is no C++ compiler '/nonexistent/c++'. Install a C++ compiler" in errors


@pytest.mark.slow
def test_the_readable_path_can_be_asked_for_without_a_warning() -> None:
    (*_, unavailable), errors = finish(start(TIDEGATE_KERNELS="0"))

    assert unavailable == "False"
    assert errors == ""


@pytest.mark.slow
def test_two_processes_may_build_at_once_and_a_damaged_library_is_built_anew(
    tmp_path: Path,
) -> None:
    both = [start(TIDEGATE_CACHE=str(tmp_path)) for _ in range(2)]
    first, second = (finish(process)[0] for process in both)
    assert first == second
    assert first[-1] == "True"
    for library in (tmp_path / "kernels").iterdir():
        library.write_bytes(library.read_bytes()[:1000])

    again, errors = finish(start(TIDEGATE_CACHE=str(tmp_path)))

    assert again == first
    assert errors == ""
    assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_a_compiler_that_fails_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho no space left >&2\nexit 4\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("TIDEGATE_CACHE", str(tmp_path / "cache"))

    with pytest.raises(BuildError, match="failed with status 4: no space left"):
        build.load()

    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def test_what_is_built_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    useless = tmp_path / "c++"
    useless.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho text > "$2"\n')
    useless.chmod(0o700)
    monkeypatch.setenv("CXX", str(useless))
    monkeypatch.setenv("TIDEGATE_CACHE", str(tmp_path / "cache"))

    with pytest.raises(BuildError, match="built does not load"):
        build.load()

    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [("CXX", "clang++"), ("TIDEGATE_CACHE", "/elsewhere")],
    ids=["compiler", "folder"],
)
def test_the_environment_chooses_compiler_and_folder(
    change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build.library_prefix()

    monkeypatch.setenv(*change)

    assert build.library_prefix() != before


def test_another_processor_another_torch_or_other_sources_mean_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = build.library_prefix()
    (tmp_path / "recurrent_layer.cpp").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(build, "_processor", lambda: "flags: avx")
        processor = build.library_prefix()
    with monkeypatch.context() as patch:
        patch.setattr("torch.__version__", "2.99.0")
        version = build.library_prefix()
    with monkeypatch.context() as patch:
        patch.setattr(build, "SOURCES", tmp_path)
        sources = build.library_prefix()

    assert len({here, processor, version, sources}) == 4
