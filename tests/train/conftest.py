"""What the tests of training share."""

import shutil
from pathlib import Path

import pytest
import torch

# Networks as small as those of the tests are fastest on one thread.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; making its tables takes seconds."""
    from tidegate.train import tracking

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with tracking.start_run(f"sqlite:///{path}", "warm-up", "warm-up", {}):
        pass
    return path


@pytest.fixture
def store_uri(empty_store: Path, tmp_path: Path) -> str:
    """A store of the test's own."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, path)
    return f"sqlite:///{path}"
