"""One TOML file, the environment over it, the command line over both."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.config import ConfigError, load, nested
from tidegate.train.presets import awd
from tidegate.train.regularizers import (
    EmbeddingDropout,
    Regularizer,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)

FORECAST = """
name = "tides"
task = "forecasting"

[dataset]
name = "co2"

[training]
epochs = 7

[[model.regularizers]]
name = "zoneout"
hidden = 0.1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tides.toml"
    path.write_text(FORECAST)
    return path


def refusal(path: Path, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {name.replace("__", "."): value for name, value in overrides.items()})
    return str(caught.value)


def test_what_the_file_says_is_read_and_the_rest_has_defaults(file: Path) -> None:
    config = load(file)
    assert (config.name, config.training.epochs, config.model.cell) == ("tides", 7, "gru")
    assert [one.build() for one in config.model.regularizers] == [Zoneout(hidden=0.1)]


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_TRAINING__EPOCHS", "8")
    assert load(file).training.epochs == 8


def test_the_command_line_wins_over_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_TRAINING__EPOCHS", "8")
    monkeypatch.setenv("TIDEGATE_TRAINING__CLIP", "0.5")
    config = load(file, {"training.epochs": "9"})
    assert (config.training.epochs, config.training.clip) == (9, 0.5)


def test_the_folder_of_the_data_sets_is_no_setting(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", "/somewhere")
    assert load(file).dataset.name == "co2"


def test_lists_and_tables_of_the_command_line_are_json(file: Path) -> None:
    config = load(
        file,
        {
            "forecast.quantile_levels": "[0.25, 0.5]",
            "model.regularizers": '[{"name": "variational", "p": 0.2}]',
        },
    )
    assert config.forecast.quantile_levels == (0.25, 0.5)
    assert [one.build() for one in config.model.regularizers] == [Variational(0.2)]


def test_a_list_that_is_not_json_is_refused(file: Path) -> None:
    assert "not JSON" in refusal(file, forecast__quantile_levels="[0.25; 0.5]")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("training__epoch", "training.epoch is unknown; did you mean 'epochs'?"),
        ("trainings__epochs", "trainings is unknown; did you mean 'training'?"),
        ("seeds", "seeds is unknown; did you mean 'seed'?"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(file: Path, key: str, suggestion: str) -> None:
    assert suggestion in refusal(file, **{key: 3})


def test_an_unknown_key_of_the_environment_is_refused_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_TRAINING__EPOCH", "8")
    assert "training.epoch is unknown; did you mean 'epochs'?" in refusal(file)


def test_a_bidirectional_forecast_is_refused_with_the_remedy(file: Path) -> None:
    text = refusal(file, model__bidirectional=True)
    assert "the future, which is not known" in text
    assert "Set model.bidirectional = false" in text


def test_a_bidirectional_labeller_is_fine(file: Path) -> None:
    config = load(
        file,
        {"task": "labelling", "dataset.name": "homographs", "model.bidirectional": "true"},
    )
    assert config.model.bidirectional


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("training__epochs", 0, "training.epochs = 0: input should be greater than or equal to 1"),
        ("model__cell", "lstn", "model.cell = 'lstn': input should be 'lstm', 'gru' or 'rnn'"),
        ("forecast__quantile_levels", [0.9, 0.5], "must be ascending"),
        ("forecast__quantile_levels", [0.1, 0.9], "lack 0.5"),
        ("model__regularizers", [{"name": "zonout"}], "did you mean 'zoneout'?"),
        ("model__regularizers", [{"name": "zaremba", "rate": 1}], "'rate' is no argument"),
        ("model__regularizers", [{"name": "zaremba"}], "missing 1 required"),
        ("model__regularizers", [{"name": "zaremba", "p": 2.0}], "p=2.0 is not a probability"),
        (
            "model__regularizers",
            [{"name": "zaremba", "p": 0.1}, {"name": "variational", "p": 0.1}],
            "both mask the input",
        ),
        ("model__characters__size", 3, "model.characters.size is unknown; use one of cell"),
        ("model__characters__normalization", "nfd", "should be '', 'NFC', 'NFD'"),
        (
            "model__characters",
            {"cell": "rnn", "regularizers": [{"name": "semeniuta", "p": 0.1}]},
            "model.characters: ",
        ),
        ("name", "a b", "name = 'a b'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(file: Path, key: str, value: object, text: str) -> None:
    assert text in refusal(file, **{key: value})


def test_rates_per_layer_and_direction_are_lists(file: Path) -> None:
    method = {"name": "zaremba", "p": [0.1, 0.2], "output_p": 0.4}
    layered = load(file, {"model.regularizers": json.dumps([method])})
    assert [one.build() for one in layered.model.regularizers] == [
        Zaremba((0.1, 0.2), output_p=0.4)
    ]
    assert layered.flat()["model.regularizers"] == "zaremba(p=[0.1, 0.2], output_p=0.4)"
    assert "has 2 entries and num_layers=3" in refusal(
        file, model__num_layers=3, model__regularizers=[method]
    )
    method["p"] = [0.1, [0.2, 0.2]]
    assert "set bidirectional=True" in refusal(file, model__regularizers=[method])


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ('name = "weight_drop"\np = 0.3\nper_example = true', WeightDrop(0.3, per_example=True)),
        (
            'name = "zoneout"\ncell = 0.2\nhidden = 0.2\nshared = true',
            Zoneout(0.2, 0.2, shared=True),
        ),
        ('name = "zaremba"\np = 0.3\ngranularity = "sequence"', Zaremba(0.3, "sequence")),
        ('name = "variational"\np = 0.3\nhidden_p = [0.1, 0.2]', Variational(0.3, (0.1, 0.2))),
        ('name = "variational"\np = 0.3\ntied = false', Variational(0.3, tied=False)),
        ('name = "semeniuta"\np = [0, 0.2]', Semeniuta((0, 0.2))),
        ('name = "rnndrop"\np = 0.1', RNNDrop(0.1)),
    ],
)
def test_every_option_can_be_given_in_the_file(
    tmp_path: Path, text: str, method: Regularizer
) -> None:
    path = tmp_path / "options.toml"
    path.write_text(
        FORECAST.split("[[model")[0] + f"[model]\ncell = 'lstm'\n[[model.regularizers]]\n{text}"
    )

    config = load(path)

    assert config.model.build_regularizers(config.task) == (method,)
    (read,) = (tomllib.loads(path.read_text())["model"]["regularizers"],)
    on_the_command_line = load(path, {"model.regularizers": json.dumps(read)})
    assert on_the_command_line.model.regularizers == config.model.regularizers


def test_a_preset_stands_for_its_regularizers(file: Path) -> None:
    bare = {"model.regularizers": "[]", "model.preset": "awd"}
    series = load(file, bare)
    words = load(file, bare | {"task": "labelling", "dataset.name": "homographs"})
    assert series.model.build_regularizers(series.task) == awd(2, words=False)
    assert words.model.build_regularizers(words.task) == awd(2, words=True)
    assert words.flat()["model.preset"] == "awd"
    assert "a preset is a set of regularizers; keep one of the two" in refusal(
        file, model__preset="awd"
    )


def test_words_are_dropped_only_where_words_are_read(file: Path) -> None:
    drop = [{"name": "embedding_dropout", "p": 0.1}]
    assert "a forecaster reads numbers" in refusal(file, model__regularizers=drop)
    labelling = {"task": "labelling", "dataset.name": "homographs", "model.regularizers": drop}
    assert load(file, labelling).model.build_regularizers("labelling") == (EmbeddingDropout(0.1),)


def test_masks_persist_only_where_there_are_masks_of_a_sequence(file: Path) -> None:
    persistent = {"training.persistent_masks": "true"}
    kept = load(file, persistent | {"model.regularizers": '[{"name": "rnndrop", "p": 0.2}]'})
    assert kept.training.persistent_masks
    assert "none of them has one mask for a sequence" in refusal(
        file, training__persistent_masks=True
    )
    assert "a sentence is never cut into segments" in refusal(
        file, training__persistent_masks=True, task="labelling", dataset__name="homographs"
    )


def test_parts_that_do_not_follow_each_other_are_refused(file: Path) -> None:
    text = refusal(file, dataset__train_until="1995-01-01", dataset__validation_until="1990-01-01")
    assert "train_until = 1995-01-01 is not before validation_until = 1990-01-01" in text


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    assert "is no file; give the path of a TOML file" in refusal(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    assert "is not TOML" in refusal(broken)


def test_a_config_cannot_be_changed(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(file).training.epochs = 3


def test_every_setting_becomes_a_parameter(file: Path) -> None:
    flat = load(file).flat()
    assert flat["training.epochs"] == "7"
    assert flat["model.regularizers"] == "zoneout(hidden=0.1)"
    assert flat["forecast.quantile_levels"] == "0.1, 0.5, 0.9"


def test_what_a_recipe_searches_for_is_no_parameter_of_its_run(file: Path) -> None:
    seeds = {"type": "int", "low": 1, "high": 9}
    searched = load(file, {"tune.space": {"seed": seeds}, "tune.trials": 3})
    assert searched.tune is not None
    assert searched.flat() == load(file).flat()


NAMES = st.text("abc_", min_size=1, max_size=4)


@given(st.dictionaries(st.tuples(NAMES, NAMES), st.integers(), max_size=8))
def test_dotted_names_come_back_from_the_nested_tree(pairs: dict[tuple[str, str], int]) -> None:
    tree = nested({f"{section}.{key}": value for (section, key), value in pairs.items()})
    assert {(s, k): v for s, keys in tree.items() for k, v in keys.items()} == pairs
