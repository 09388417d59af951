"""Training in workers that Ray starts: Ray Train's TorchTrainer over the same loop."""

import os
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from tidegate.train import job
from tidegate.train.config import Config
from tidegate.train.engines import ray_cluster, ray_stop
from tidegate.train.fit import Interrupted, ProcessGroup, TrainingError, choose_device


class RayTrain:
    """``ray.workers`` processes on the machines of a cluster."""

    is_first = True

    def fit(self, config: Config, output: Path, *, resume: bool) -> job.Summary:
        """Does what :meth:`tidegate.train.engines.Engine.fit` says.

        The machines share the working directory, and so the output, the data and
        an MLflow store in a file. The first worker tracks and writes.
        """
        folder = output.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with (
            ray_cluster.connect(config) as needed,
            TemporaryDirectory(prefix=".ray-", dir=folder) as scratch,
        ):
            stop = ray_stop.start_stop()
            trainer = TorchTrainer(
                _work,  # type: ignore[arg-type] # Ray leaves the value that it returns out
                train_loop_config={
                    "config": config,
                    "output": folder,
                    "resume": resume,
                    "directory": Path.cwd(),
                    "stop": stop,
                },
                torch_config=TorchConfig(backend=ray_cluster.backend(needed)),
                scaling_config=ray_train.ScalingConfig(
                    num_workers=config.ray.workers,
                    use_gpu=needed["GPU"] > 0,
                    resources_per_worker={name: share for name, share in needed.items() if share},
                ),
                run_config=ray_train.RunConfig(name=config.name, storage_path=scratch),
            )
            with ray_stop.passed_on(stop):
                return _outcome(trainer)


def _work(given: dict[str, Any]) -> job.Summary | Interrupted | None:
    """What each worker does; Ray has initialized torch's process group."""
    # As torchrun's processes: relative paths are those of the command.
    os.chdir(given["directory"])
    config: Config = given["config"]
    local_rank = ray_train.get_context().get_local_rank()
    processes = ProcessGroup(
        choose_device(config.training.device, local_rank),
        local_rank,
        interruption=lambda: ray_stop.RemoteInterruption(given["stop"]),
    )
    try:
        return job.take_part(config, given["output"], resume=given["resume"], processes=processes)
    except Interrupted as stopped:
        # All workers stop at this step; an exception would be a failure to Ray.
        return stopped


def _outcome(trainer: TorchTrainer) -> job.Summary:
    """What the first worker came to.

    In a thread of its own: in the main one Ray would take SIGINT as an end at once.
    """
    # Of daemon threads, as an executor's are not: a second SIGINT does not wait for it.
    with ThreadPool(1) as thread:
        try:
            result: Any = thread.apply(trainer.fit)
        except ray_train.WorkerGroupError as error:
            raise _cause(error) from error
    outcome: job.Summary | Interrupted = result.return_value
    if isinstance(outcome, Interrupted):
        raise outcome
    return outcome


def _cause(error: ray_train.WorkerGroupError) -> Exception:
    """What a worker raised, if it speaks to the user."""
    for _, failure in sorted(error.worker_failures.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, ValueError | TrainingError):
            return cause
    return error
