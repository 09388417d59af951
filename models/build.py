"""Trains the reference models: every recipe of ``models/recipes``, for ``make models``.

Each becomes ``models/<name>/1/model.onnx`` with a model card beside it, and
``models/<name>/aliases.json``, which is what the server reads by default.
"""

import shutil
from pathlib import Path

from tidegate.train import job
from tidegate.train.config import load
from tidegate.train.publish import publish
from tidegate.v1 import model_spec_pb2 as pb

MODELS = Path(__file__).parent
VERSION = "1"


def main() -> None:
    """Trains every recipe in turn."""
    for recipe in sorted((MODELS / "recipes").glob("*.toml")):
        result = job.run(load(recipe))
        folder = MODELS / result.config.name
        # The reference models are made anew in place; elsewhere a version never changes.
        shutil.rmtree(folder, ignore_errors=True)
        file = publish(result.path, MODELS, result.config.name, VERSION, alias="champion")
        card = model_card(result, recipe.name)
        file.with_name("MODEL_CARD.md").write_text(card, encoding="utf-8")


def model_card(result: job.Result, recipe: str) -> str:
    """What a user of the file should know, in Markdown."""
    spec = result.spec
    size = result.path.stat().st_size / 1024
    metrics = "\n".join(
        f"| {name} | {value:.4f} |" for name, value in result.evaluation.metrics.items()
    )
    regularizers = ", ".join(one.name for one in spec.regularizers) or "none"
    return f"""# {result.config.name}, version {VERSION}

{_purpose(spec)}

- Network: {spec.network.num_layers} layers of {pb.Cell.Name(spec.network.cell)[5:]} with \
{spec.network.hidden_size} units, {pb.Direction.Name(spec.direction)[10:].lower()}; trained with \
{regularizers}.
- Data: `{result.config.dataset.name}`, {_parts(result)}; sha256 \
`{spec.provenance.data_digest}`.
- Made by `make models` from `models/recipes/{recipe}`, seed {result.config.seed}; \
{result.fitted.best_epoch} of {result.config.training.epochs} epochs, the best by \
`{result.fitted.monitor}`.
- Largest difference between ONNX Runtime and PyTorch: {spec.parity.max_absolute_error:.1e} in \
{spec.parity.cases} cases.
- Size: {size:.0f} KiB.

Scores of the test part, which neither training nor the choice of the epoch has seen:

| metric | value |
|---|---|
{metrics}

{_limits(spec)}
"""


def _purpose(spec: pb.ModelSpec) -> str:
    if spec.task == pb.TASK_FORECASTING:
        forecast = spec.forecast
        levels = ", ".join(f"{level:g}" for level in forecast.quantile_levels)
        return (
            f"Forecasts {', '.join(forecast.targets)} 1 to {forecast.horizon} steps ahead "
            f"(frequency {forecast.frequency}) as the quantiles {levels}, at every observation of "
            f"{', '.join(feature.name for feature in forecast.features)}."
        )
    labels = ", ".join(spec.labelling.label_names)
    return f"Gives each word of a sentence one of the labels {labels}."


def _parts(result: job.Result) -> str:
    parts = (result.data.train, result.data.validation, result.data.test)
    rows = [
        sum(map(len, part)) if result.config.task == "forecasting" else len(part) for part in parts
    ]
    return "{} rows of training, {} of validation, {} of test".format(*rows)


def _limits(spec: pb.ModelSpec) -> str:
    if spec.task == pb.TASK_FORECASTING:
        return (
            "Limits: trained on this one series; a series of other units or another frequency "
            "needs a model of its own."
        )
    return (
        "Limits: the sentences come from a small generator, to show what a second direction is "
        "good for; this is no tagger for real text."
    )


if __name__ == "__main__":
    main()
