"""Backtests, baselines and scores."""

import dataclasses
import math
from datetime import date

import numpy as np
import pytest
import torch

from support.models import joint_labeller
from tidegate.train import Recurrent, plots
from tidegate.train.data.sentences import Sentence
from tidegate.train.data.series import Series, SeriesSplit
from tidegate.train.data.split import split_by_time
from tidegate.train.evaluate import backtest as backtest_module
from tidegate.train.evaluate.backtest import Backtest, backtest, stream
from tidegate.train.evaluate.baselines import last_value, season_length, seasonal_naive
from tidegate.train.evaluate.forecasting import score
from tidegate.train.evaluate.labelling import Answers, predict
from tidegate.train.evaluate.spans import count_spans
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.scaler import StandardScaler


def counting(rows: int) -> Series:
    """Each value is its row's number, so that every shift shows."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(rows) * np.timedelta64(1, "D")
    return Series("count", times, np.arange(rows, dtype=np.float64)[:, None], ("value",), "D")


def forecaster(split: SeriesSplit, horizon: int = 3) -> Forecaster:
    torch.manual_seed(0)
    noise = split.train.values + np.random.default_rng(0).normal(size=split.train.values.shape)
    return Forecaster(
        Recurrent("gru", 1, 4),
        features=("value",),
        targets=("value",),
        horizon=horizon,
        quantile_levels=(0.1, 0.5, 0.9),
        scaler=StandardScaler.fit(noise, [True]),
        frequency="D",
    )


def made_up(offsets: tuple[float, float, float], rows: int = 40, start: int = 20) -> Backtest:
    """Forecasts that are the truth plus one offset for each quantile."""
    series, horizon = counting(rows), 4
    origins = np.arange(start, rows - horizon)
    truth = (origins[:, None] + np.arange(1, horizon + 1)).astype(np.float64)[..., None]
    quantiles = truth[..., None] + np.asarray(offsets)
    return Backtest(series, origins, quantiles, truth, ("value",), (0.1, 0.5, 0.9), start)


def whole_stream(model: Forecaster, values: np.ndarray) -> np.ndarray:
    (quantiles,) = stream(model, [values])
    return quantiles


# Backtests


def test_a_backtest_forecasts_every_value_of_its_part_and_no_other() -> None:
    split = split_by_time(counting(20), date(2001, 1, 11), date(2001, 1, 16))
    test = backtest(forecaster(split), split, "validation")
    assert test.origins.tolist() == [9, 10, 11]
    assert test.truth[..., 0].tolist() == [[10, 11, 12], [11, 12, 13], [12, 13, 14]]
    assert test.quantiles.shape == (3, 3, 1, 3)
    assert len(test.series) == 15


def test_a_backtest_is_the_stream_of_the_whole_past() -> None:
    split = split_by_time(counting(30))
    model = forecaster(split)
    test = backtest(model, split, "test")
    whole = whole_stream(model, split.series.values)
    np.testing.assert_array_equal(test.quantiles, whole[test.origins])


def test_the_size_of_a_chunk_does_not_change_a_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_by_time(counting(50))
    model = forecaster(split)
    whole = whole_stream(model, split.series.values)
    monkeypatch.setattr(backtest_module, "CHUNK", 7)
    np.testing.assert_allclose(whole_stream(model, split.series.values), whole, atol=1e-5)


def test_a_forecast_never_sees_what_comes_after_its_origin() -> None:
    split = split_by_time(counting(50))
    model = forecaster(split)
    values = split.series.values.copy()
    values[40:] = -1000.0
    before, after = whole_stream(model, split.series.values), whole_stream(model, values)
    np.testing.assert_array_equal(before[:40], after[:40])
    assert not np.array_equal(before[40:], after[40:])


def test_a_part_shorter_than_the_horizon_is_refused() -> None:
    split = split_by_time(counting(20), date(2001, 1, 17), date(2001, 1, 19))
    with pytest.raises(ValueError, match="the validation part of series 'count' has 2 rows, and"):
        backtest(forecaster(split), split, "validation")


# Baselines


def test_the_last_value_is_that_of_the_origin() -> None:
    test = made_up((0, 0, 0))
    np.testing.assert_array_equal(last_value(test.values, test.origins, 4)[0, :, 0], [20] * 4)


def test_the_seasonal_baseline_repeats_the_value_one_season_before_the_target() -> None:
    test = made_up((0, 0, 0))
    np.testing.assert_array_equal(
        seasonal_naive(test.values, test.origins, 4, 10)[0, :, 0], [11, 12, 13, 14]
    )
    # A season shorter than the horizon: only values known at the origin.
    np.testing.assert_array_equal(
        seasonal_naive(test.values, test.origins, 4, 3)[0, :, 0], [18, 19, 20, 18]
    )


def test_a_season_longer_than_the_past_is_refused() -> None:
    test = made_up((0, 0, 0))
    with pytest.raises(ValueError, match="season=30 is longer than the 21 rows"):
        seasonal_naive(test.values, test.origins, 4, 30)


@pytest.mark.parametrize(
    ("frequency", "season"),
    [("15min", 96), ("h", 24), ("D", 7), ("W-SAT", 52), ("MS", 12), ("QS", 4), ("YS", 1)],
)
def test_a_season_follows_from_the_frequency(frequency: str, season: int) -> None:
    assert season_length(frequency) == season


# Scores of forecasts


def test_the_scores_are_those_of_numpy() -> None:
    test = made_up((-2.0, 0.5, 1.0))
    metrics = score([test], season=10).metrics
    assert metrics["mae"] == pytest.approx(0.5)
    assert metrics["mae_last_value"] == pytest.approx(2.5)
    assert metrics["mae_seasonal_naive"] == pytest.approx(10.0)
    assert metrics["skill_last_value"] == pytest.approx(0.8)
    assert metrics["skill_seasonal_naive"] == pytest.approx(0.95)
    assert metrics["coverage_80"] == 1.0
    # Pinball of each quantile: 0.1 * 2, 0.5 * 0.5, 0.1 * 1.
    pinball = (0.2 + 0.25 + 0.1) / 3
    assert metrics["weighted_quantile_loss"] == pytest.approx(2 * pinball / test.truth.mean())
    assert test.loss(np.array([2.0])) == pytest.approx(pinball / 2)


def test_coverage_counts_values_within_the_outer_quantiles() -> None:
    test = made_up((-1.0, 0.0, 1.0))
    quantiles = test.quantiles.copy()
    quantiles[: len(quantiles) // 4] += 5.0
    moved = dataclasses.replace(test, quantiles=quantiles)
    assert score([moved], season=10).metrics["coverage_80"] == pytest.approx(0.75)


def test_the_table_by_horizon_grows_with_the_step() -> None:
    table = score([made_up((0, 0, 0))], season=10).by_horizon
    assert table["mae_last_value"].tolist() == [1, 2, 3, 4]
    assert table["mae"].tolist() == [0, 0, 0, 0]


# Scores of labels

ANSWERS = Answers(
    (Sentence(("A", "b"), ("X", "Y")), Sentence(("b", "c"), ("Z", "X"))),
    (("X", "X"), ("Y", "X")),
    ("X", "Y"),
)


def test_the_accuracy_counts_words() -> None:
    assert ANSWERS.accuracy == 0.5
    assert ANSWERS.accuracy_on({"a"}) == 1.0
    assert ANSWERS.accuracy_on({"A"}, lower_case=False) == 1.0
    assert ANSWERS.accuracy_on({"b"}) == 0.0
    assert math.isnan(ANSWERS.accuracy_on({"nowhere"}))


def test_the_confusion_has_right_labels_in_its_rows() -> None:
    assert ANSWERS.confusion().tolist() == [[2, 0], [1, 0]]
    table = ANSWERS.by_label()
    assert table["recall"].tolist() == [1.0, 0.0]
    assert table["precision"].tolist() == pytest.approx([2 / 3, 0.0])
    assert table["words"].tolist() == [2, 1]


def test_labels_come_back_in_the_order_of_the_sentences() -> None:
    torch.manual_seed(0)
    words = ["<pad>", "<unk>", "a", "b"]
    recurrent = Recurrent("lstm", 4, 4, bidirectional=True)
    model = Labeller(recurrent, words=words, label_names=["X", "Y"], embedding_size=4)
    sentences = [Sentence(w, ("X",) * len(w)) for w in (("a", "b", "a"), ("b",), ("a", "c"))]
    together = predict(model, sentences, tokens=4)
    alone = [predict(model, [one]).labels[0] for one in sentences]
    assert list(together.labels) == alone


JOINT = Answers(
    (
        Sentence(("to", "new", "york"), ("O", "B-to", "I-to"), "flight"),
        Sentence(("rome", "now"), ("B-to", "B-time"), "fare"),
        Sentence(("via", "rome"), ("O", "B-via"), "fare#flight"),
    ),
    (("O", "B-to", "I-to"), ("B-to", "O"), ("O", "B-to")),
    ("O", "B-to", "I-to", "B-time"),
    ("flight", "fare", "fare"),
    ("flight", "fare"),
)


def test_every_score_is_there_that_the_labels_allow() -> None:
    metrics = JOINT.metrics()
    # Given: york, rome, rome. Right: york, rome, now, rome as another kind.
    assert metrics == {
        "accuracy": 5 / 7,
        "precision": pytest.approx(2 / 3),
        "recall": 2 / 4,
        "f1": pytest.approx(4 / 7),
        "sentence_accuracy": pytest.approx(2 / 3),
        "exact_match": pytest.approx(1 / 3),
    }
    assert ANSWERS.metrics() == {"accuracy": 0.5}
    whole = dataclasses.replace(JOINT, labels=(), label_names=())
    assert list(whole.metrics()) == ["sentence_accuracy"]


def test_tables_and_confusions_name_what_they_count() -> None:
    tables = JOINT.tables()
    assert list(tables) == ["by_label", "by_sentence_label", "by_span"]
    assert tables["by_sentence_label"]["sentences"].tolist() == [1, 1]
    assert tables["by_span"].set_index("kind")["spans"].to_dict() == {"time": 1, "to": 2, "via": 1}
    assert JOINT.confusions()["sentence_labels"][0].tolist() == [[1, 0], [0, 1]]


def test_sentence_labels_come_back_in_the_order_of_the_sentences() -> None:
    model = joint_labeller()
    sentences = [
        Sentence(words, ("O",) * len(words), "order")
        for words in (("the", "gate", "x"), ("open",), ("close", "the"))
    ]
    together = predict(model, sentences, tokens=3)
    alone = [predict(model, [one]).sentence_labels[0] for one in sentences]
    assert list(together.sentence_labels) == alone


def test_spans_are_right_with_both_ends_and_their_kind() -> None:
    right = "B-x I-x O B-y O O"
    for given, hits, found in (
        ("B-x I-x O B-y O O", 2, 2),
        ("B-x O O B-y O O", 1, 2),
        ("I-x I-x O S-y O O", 2, 2),
        ("B-y I-y O B-y O O", 1, 2),
        ("B-x B-x O O O B-x", 0, 3),
        ("O O O O O O", 0, 0),
    ):
        counts = count_spans([(right.split(), given.split())])
        assert (counts.hits.total(), counts.given.total(), counts.right.total()) == (hits, found, 2)
    none = count_spans([(["O"], ["O"])])
    assert (none.precision, none.recall, none.f1) == (0, 0, 0)


def test_the_f1_is_over_all_spans_together() -> None:
    pairs = [(["B-x"] * 3, ["B-x", "B-x", "O"]), (["O", "B-y"], ["B-y", "B-y"])]
    counts = count_spans(pairs)
    assert counts.precision == pytest.approx(3 / 4)
    assert counts.recall == pytest.approx(3 / 4)
    table = counts.by_kind().set_index("kind")
    assert list(table.loc["x"]) == pytest.approx([1.0, 2 / 3, 0.8, 3])
    assert list(table.loc["y"]) == pytest.approx([1 / 2, 1.0, 2 / 3, 1])


# Figures


def test_figures_are_pictures_with_something_on_them() -> None:
    test = made_up((-2.0, 0.5, 1.0))
    for figure in (
        plots.forecast_figure(test),
        plots.horizon_figure(score([test], season=10).by_horizon),
        plots.confusion_figure(ANSWERS.confusion(), ANSWERS.label_names),
    ):
        image = plots.pixels(figure)
        assert image.shape[2] == 3
        assert 100 < image.mean() < 255
