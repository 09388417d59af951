"""Device and precision of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from support.training_tasks import StoppedAfter, forecasting, labelling, language_modelling, weights
from tidegate.train import config, job
from tidegate.train.fit import Compute, Interrupted, Optimization, Processes, choose_device, fit

OPTIMIZATION = Optimization(learning_rate=0.01)
TASKS: dict[str, Callable[[], Any]] = {
    "forecasting": forecasting,
    "labelling": labelling,
    "language_modelling": language_modelling,
}
CPU = torch.device("cpu")

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@without_cuda
def test_a_device_that_is_not_there_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"device = 'cuda': torch .*; install a driver"):
        choose_device("cuda")


@without_cuda
def test_auto_is_the_cpu_where_there_is_no_other_device() -> None:
    assert choose_device("auto") == CPU


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="device='cudo' is unknown; did you mean 'cuda'"):
        choose_device("cudo")  # type: ignore[arg-type] # the point of the test


def test_processes_of_one_machine_take_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert [choose_device("auto", rank) for rank in range(2)] == [
        torch.device("cuda", 0),
        torch.device("cuda", 1),
    ]
    with pytest.raises(ValueError, match=r"process 2 .* among 2; start at most 2 processes"):
        choose_device("cuda", 2)


def test_fp16_is_for_cuda_devices() -> None:
    with pytest.raises(ValueError, match=r"precision = 'fp16' on the device 'cpu': .* use 'bf16'"):
        Compute(CPU, "fp16")


@pytest.mark.parametrize("kind", TASKS)
def test_bf16_is_near_fp32_and_not_the_same(kind: str) -> None:
    half, whole = TASKS[kind](), TASKS[kind]()

    first = fit(half, OPTIMIZATION, epochs=2, compute=Compute(CPU, "bf16"))
    second = fit(whole, OPTIMIZATION, epochs=2)

    assert weights(half).dtype == torch.float32
    assert not weights(half).equal(weights(whole))
    loss = second.epochs[-1].metrics["train_loss"]
    assert first.epochs[-1].metrics["train_loss"] == pytest.approx(loss, rel=0.05)


@pytest.mark.parametrize("kind", TASKS)
def test_a_run_in_bf16_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    compute, file = Compute(CPU, "bf16"), tmp_path / "training.pt"
    whole, stopped, resumed = TASKS[kind](), StoppedAfter(TASKS[kind](), 3), TASKS[kind]()

    def save(state: dict[str, Any]) -> None:
        torch.save(state, file)

    fit(whole, OPTIMIZATION, epochs=2, compute=compute)
    with pytest.raises(Interrupted):
        fit(stopped, OPTIMIZATION, epochs=2, compute=compute, save=save)
    state = torch.load(file, weights_only=True)
    fit(resumed, OPTIMIZATION, epochs=2, compute=compute, resume=state)

    assert weights(resumed).equal(weights(whole))


def test_the_gradients_of_fp16_are_scaled_and_no_others() -> None:
    assert not Compute(CPU, "bf16").build_scaler().is_enabled()
    assert not Compute().build_scaler().is_enabled()


@without_cuda
def test_a_run_says_which_device_it_took(tmp_path: Path, store_uri: str) -> None:
    path = tmp_path / "nouns.toml"
    path.write_text(
        'name = "nouns"\ntask = "labelling"\n[dataset]\nname = "homographs"\nsentences = 60\n'
        "[model]\nhidden_size = 4\nembedding_size = 4\nnum_layers = 1\n"
        '[training]\nepochs = 1\nprecision = "bf16"\n'
        f'[tracking]\nuri = "{store_uri}"\n'
    )

    result = job.run(config.load(path), tmp_path / "out")

    tags = mlflow.MlflowClient(store_uri).get_run(result.run_id).data.tags
    assert (tags["device"], tags["processes"]) == ("cpu, bf16", "1")
    with pytest.raises(ValueError, match=r"training\.device = 'cuda'"):
        job.build_compute(config.load(path, {"training.device": "cuda"}), Processes())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_learned_on_the_device_as_on_the_cpu(kind: str, precision: str) -> None:
    on_device, on_cpu = TASKS[kind](), TASKS[kind]()
    compute = Compute(choose_device("cuda"), precision)  # type: ignore[arg-type] # parametrized

    there = fit(on_device, OPTIMIZATION, epochs=2, compute=compute)
    here = fit(on_cpu, OPTIMIZATION, epochs=2)

    loss, allowed = here.epochs[-1].metrics["train_loss"], 1e-3 if precision == "fp32" else 0.1
    assert there.epochs[-1].metrics["train_loss"] == pytest.approx(loss, rel=allowed)
