"""A file written once loads for ever, and answers as it did."""

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from support.models import Session
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train.export import check_file

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.onnx"))
# Of callers of ONNX Runtime alone: the server refuses them.
MASKED = sorted(GOLDEN.glob("*-mc-masks.onnx"))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that writes golden files."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_loads_where_it_may_and_answers_as_it_did(path: Path) -> None:
    if path in MASKED:
        session: Any = Session(path)
    else:
        session = load_model(path.stem, "1", path, Settings(provider="cpu")).session
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        inputs = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in.")}
        expected = {name[4:]: arrays[name] for name in arrays.files if name.startswith("out.")}

    outputs = session.run(inputs)

    assert outputs.keys() == expected.keys()
    real = np.arange(inputs["lengths"].max()) < inputs["lengths"][:, None]
    for name, value in expected.items():
        found = outputs[name]
        if value.shape[:2] == real.shape:
            found, value = found[real], value[real]
        # Another machine sums in another order.
        np.testing.assert_allclose(found, value, rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_passes_the_trainers_check(path: Path) -> None:
    assert check_file(path).parity.cases > 0


def test_no_golden_file_has_changed() -> None:
    lines = (GOLDEN / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}

    found = [path for path in GOLDEN.iterdir() if path.suffix in (".onnx", ".npz")]
    assert {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in found} == sums
    assert len(lines) == len(sums)


def test_every_kind_of_model_has_its_golden_file(make: ModuleType) -> None:
    assert set(make.MODELS) <= {path.stem for path in FILES}


def test_the_golden_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) < 300_000


def test_what_is_there_is_never_written_again(
    make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: make.MODELS[name] for name in ("recurrent-rnn", "forecaster-gru")}
    monkeypatch.setattr(make, "MODELS", few)
    (tmp_path / "recurrent-rnn.onnx").write_bytes(b"from long ago")

    assert make.main(tmp_path) == ["forecaster-gru"]
    assert make.main(tmp_path) == []

    assert (tmp_path / "recurrent-rnn.onnx").read_bytes() == b"from long ago"
    assert "recurrent-rnn" not in (tmp_path / "SHA256SUMS").read_text()
