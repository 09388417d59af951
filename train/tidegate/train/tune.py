"""The search for a better configuration: Optuna's trials, each a nested MLflow run.

Any number of workers share a study: each runs the same command, on one machine or
several, and takes trials until the study has enough of them.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import tomlkit

from tidegate.train import config as configuration
from tidegate.train import job, tracking
from tidegate.train.build import DataCache, build_model
from tidegate.train.config import Config
from tidegate.train.config.errors import ConfigError
from tidegate.train.config.tune import Distribution, TuneConfig
from tidegate.train.fit import Epoch, Fitted, TrainingError
from tidegate.train.output import DEFAULT_OUTPUT
from tidegate.train.tasks import TASKS

if TYPE_CHECKING:
    import optuna

PARENT_RUN = "mlflow_parent_run"
_EXTRA = "tune needs Optuna; install tidegate[tune]"


@dataclass(frozen=True)
class Tuned:
    """What a study came to so far.

    Attributes:
        study: its name.
        trials: that have ended, pruned ones too.
        metric: that was compared.
        score: the best.
        settings: of the best trial, by dotted name.
        recipe: the TOML file of the best configuration.
    """

    study: str
    trials: int
    metric: str
    score: float
    settings: dict[str, Any]
    recipe: Path


def tune(
    path: str | Path,
    output: str | Path = DEFAULT_OUTPUT,
    overrides: Mapping[str, Any] | None = None,
) -> Tuned:
    """Takes trials of a recipe's study until it has ``tune.trials`` of them.

    Workers that take the last trials at the same time may run one each too many.

    Args:
        path: of the TOML file, with a section ``[tune]``.
        output: folder that gets ``<name>/best.toml``.
        overrides: settings that win over the file in every trial.

    Raises:
        ConfigError: there is no ``[tune]``, or a name of its space is no setting.
        ValueError: Optuna is not installed, or no trial came to an end.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError(_EXTRA) from error
    base = configuration.load(path, overrides)
    if base.tune is None:
        raise ConfigError(f"{path} has no section [tune]; give it one with [tune.space]")
    _check_space(Path(path), base.tune, overrides or {})
    task = TASKS[base.task]
    cache = DataCache()
    data = cache.load(base)
    measured = task.fit_task(base, build_model(base, data), data)
    study = _open_study(base, base.tune, higher_is_better=measured.higher_is_better)
    parent = _parent_run(base, study)
    began = monotonic()
    while _count(study) < base.tune.trials and not _is_over(base.tune, began):
        study.optimize(
            lambda trial: _try(Path(path), base, overrides or {}, trial, parent, cache),
            n_trials=1,
            catch=(TrainingError,),
        )
    if not study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        raise ValueError(
            f"no trial of the study {study.study_name!r} came to an end: all failed, or "
            "tune.timeout was over before; look at their MLflow runs"
        )
    settings = {**study.best_params}
    recipe = write_recipe(Path(path), {**(overrides or {}), **settings}, _recipe_of(output, base))
    tracking.finish_parent(
        base.tracking.uri, parent, {f"best_{measured.monitor}": study.best_value}, recipe
    )
    return Tuned(
        study.study_name, _count(study), measured.monitor, study.best_value, settings, recipe
    )


def suggest(trial: "optuna.Trial", space: Mapping[str, Distribution]) -> dict[str, Any]:
    """A trial's settings, by dotted name."""
    settings: dict[str, Any] = {}
    for name, one in space.items():
        match one.type:
            case "float":
                settings[name] = trial.suggest_float(name, one.low, one.high, log=one.log)
            case "int":
                settings[name] = trial.suggest_int(name, one.low, one.high, log=one.log)
            case "categorical":
                settings[name] = trial.suggest_categorical(name, list(one.choices))
    return settings


def write_recipe(source: Path, settings: Mapping[str, Any], target: Path) -> Path:
    """Writes a recipe with other settings and without ``[tune]``; comments stay.

    Args:
        source: the TOML file.
        settings: by dotted name.
        target: the file to write.

    Returns:
        ``target``.
    """
    document = tomlkit.parse(source.read_text())
    kept = {name: value for name, value in settings.items() if not name.startswith("tune.")}
    # As they were read: what the command line gives is text.
    resolved = configuration.load(source, kept).model_dump(mode="json")
    document.pop("tune", None)
    for name in kept:
        _put(document, name.split("."), resolved)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(tomlkit.dumps(document))
    temporary.replace(target)
    return target


def _put(table: Any, path: Sequence[str], resolved: Mapping[str, Any]) -> None:  # noqa: ANN401 # tomlkit's tables
    name, *rest = path
    if not rest:
        table[name] = resolved[name]
        return
    if name not in table:
        table[name] = tomlkit.table()
    _put(table[name], rest, resolved[name])


def _try(
    path: Path,
    base: Config,
    overrides: Mapping[str, Any],
    trial: "optuna.Trial",
    parent: str,
    cache: DataCache,
) -> float:
    """One trial: the best validation score, reported epoch by epoch."""
    import optuna

    trial.set_user_attr("worker", f"{platform.node()} {os.getpid()}")
    settings = suggest(trial, base.tune.space if base.tune else {})
    config = configuration.load(path, {**overrides, **settings})
    data = cache.load(config)
    model = build_model(config, data)
    best: list[float] = []

    def report(epoch: Epoch) -> None:
        if epoch.is_best:
            best[:] = [epoch.metrics[monitor]]
        trial.report(best[0], epoch.number)
        if trial.should_prune():
            raise optuna.TrialPruned(f"in epoch {epoch.number}")

    monitor = TASKS[config.task].fit_task(config, model, data).monitor
    pruned: optuna.TrialPruned | None = None
    fitted: Fitted | None = None
    with job.track(config, data, parent=parent) as tracked:
        tracked.set_tag("trial", str(trial.number))
        try:
            fitted = job.train(config, model, data, tracked, after_epoch=[report])
        except optuna.TrialPruned as error:
            pruned = error
            tracked.set_tag("pruned", str(error))
    if fitted is None:
        raise pruned or TrainingError("no epoch ended")
    return float(fitted.best.metrics[monitor])


def _check_space(path: Path, section: TuneConfig, overrides: Mapping[str, Any]) -> None:
    """Reads the recipe with one value of each range: what is no setting is found at once."""
    for name, one in section.space.items():
        value = one.choices[0] if one.type == "categorical" else one.low
        try:
            configuration.load(path, {**overrides, name: value})
        except ConfigError as error:
            raise ConfigError(f"tune.space: {error}") from error


def _open_study(base: Config, section: TuneConfig, *, higher_is_better: bool) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if section.storage.startswith(tracking.SQLITE):
        Path(section.storage.removeprefix(tracking.SQLITE)).parent.mkdir(
            parents=True, exist_ok=True
        )
    pruners = optuna.pruners
    study = optuna.create_study(
        study_name=base.name,
        storage=_storage(section),
        load_if_exists=True,
        direction="maximize" if higher_is_better else "minimize",
        pruner=pruners.MedianPruner() if section.pruner == "median" else pruners.NopPruner(),
    )
    # Workers that sampled by one seed would all try the same.
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + len(study.trials))
    return study


def _storage(section: TuneConfig) -> str:
    """The URL of the study's store, with the password that is in no setting.

    Raises:
        ConfigError: the file of the password cannot be read.
    """
    from sqlalchemy.engine import make_url

    file = section.storage_password_file
    if file is None:
        return section.storage
    try:
        password = file.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"tune.storage_password_file = {str(file)!r}: {error.strerror}"
        ) from error
    return make_url(section.storage).set(password=password).render_as_string(hide_password=False)


def _parent_run(base: Config, study: "optuna.Study") -> str:
    """The MLflow run of the whole study, which its first worker begins."""
    if PARENT_RUN not in study.user_attrs:
        section = base.tracking
        run = tracking.begin_parent(section.uri, section.experiment, f"{base.name}-tune")
        study.set_user_attr(PARENT_RUN, run)
    # What is stored: of two workers that began one at the same time the later one's.
    parent: str = study.user_attrs[PARENT_RUN]
    return parent


def _count(study: "optuna.Study") -> int:
    """Trials that ended or are under way, but for those that failed."""
    return sum(trial.state.name != "FAIL" for trial in study.get_trials(deepcopy=False))


def _is_over(section: TuneConfig, began: float) -> bool:
    return section.timeout is not None and monotonic() - began > section.timeout


def _recipe_of(output: str | Path, base: Config) -> Path:
    return Path(output) / base.name / "best.toml"
