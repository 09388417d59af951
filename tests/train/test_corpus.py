"""Running text: tokens, vocabulary, parts, lanes."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train import inspect_data
from tidegate.train.data.catalog import find_dataset, text_files
from tidegate.train.data.corpus import Corpus, read_corpus, read_tokens
from tidegate.train.data.text_lanes import text_segments

PENN = " the gate <unk> open \n\n N gates \n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def decoded(corpus: Corpus, ids: np.ndarray) -> list[str]:
    return [corpus.vocabulary[index] for index in ids]


def test_words_are_parted_by_spaces_and_every_line_ends_in_eos(tmp_path: Path) -> None:
    tokens = read_tokens(write(tmp_path / "text", PENN), "word")
    assert tokens == ["the", "gate", "<unk>", "open", "<eos>", "<eos>", "N", "gates", "<eos>"]


def test_characters_are_all_of_them_with_line_feeds(tmp_path: Path) -> None:
    assert "".join(read_tokens(write(tmp_path / "text", PENN), "character")) == PENN


def test_a_packed_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(PENN.encode()))
    assert "".join(read_tokens(path, "character")) == PENN


def test_the_vocabulary_is_of_the_training_part_with_unknown_once_and_first(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "train", PENN + "the\n"),
        write(tmp_path / "valid", "the ebb\n"),
        write(tmp_path / "test", "open gate\n"),
    ]
    corpus = read_corpus("mine", files, "word")
    assert corpus.vocabulary == ("<unk>", "<eos>", "the", "N", "gate", "gates", "open")
    assert decoded(corpus, corpus.validation) == ["the", "<unk>", "<eos>"]
    rare = read_corpus("mine", files, "word", min_count=2)
    assert rare.vocabulary == ("<unk>", "<eos>", "the")
    assert rare.digest() != corpus.digest()
    assert read_corpus("mine", files, "word").digest() == corpus.digest()


def test_one_file_is_cut_in_its_own_order(tmp_path: Path) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(199)) + "\n"
    text = text[::-1]
    corpus = read_corpus("mine", [write(tmp_path / "text", text)], "character")
    assert [len(corpus.train), len(corpus.validation), len(corpus.test)] == [180, 10, 11]
    parts = (corpus.train, corpus.validation, corpus.test)
    assert "".join("".join(decoded(corpus, part)) for part in parts) == text + "\n"


def test_a_part_without_a_token_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the validation part of 'mine' has 1 tokens"):
        read_corpus("mine", [write(tmp_path / "text", "a" * 30)], "character")


def test_bytes_of_another_encoding_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"text, line 2: byte 0xe9 at column 4 is not utf-8"):
        read_tokens(path, "word")


def test_files_that_are_no_one_and_no_three_are_refused(tmp_path: Path) -> None:
    dataset = find_dataset("text")
    with pytest.raises(ValueError, match="give three: of training, validation and test; or one"):
        text_files(dataset, path=tmp_path, files=("train", "test"))
    with pytest.raises(ValueError, match=r"dataset\.path is missing"):
        text_files(dataset)
    assert text_files(dataset, path=write(tmp_path / "text", "a")) == (tmp_path / "text",)


@given(
    size=st.integers(2, 200),
    lanes=st.integers(1, 12),
    bptt=st.integers(1, 30),
    seed=st.none() | st.integers(0, 5),
)
def test_every_token_but_the_first_is_a_target_once_and_follows_its_own(
    size: int, lanes: int, bptt: int, seed: int | None
) -> None:
    ids = np.arange(size)
    generator = None if seed is None else np.random.default_rng(seed)
    segments = list(text_segments(ids, lanes, bptt, generator))
    tokens = torch.cat([one.tokens for one in segments], dim=1)
    targets = torch.cat([one.targets for one in segments], dim=1)
    real = targets != -100
    assert sorted(targets[real].tolist()) == list(range(1, size))
    # Each lane is one stretch of the text, so that the state of one segment begins the next.
    assert torch.equal(tokens[real] + 1, targets[real])
    assert torch.equal(tokens[:, 1:][real[:, 1:]], targets[:, :-1][real[:, 1:]])


def test_lengths_are_drawn_around_the_whole_and_the_half() -> None:
    generator = np.random.default_rng(0)
    lengths = [one.tokens.shape[1] for one in text_segments(np.arange(40_000), 1, 70, generator)]
    halves = np.mean([length < 53 for length in lengths])
    assert 0.02 < halves < 0.09
    assert np.mean(lengths) == pytest.approx(0.95 * 70 + 0.05 * 35, abs=1.0)


needs_data = pytest.mark.skipif("TIDEGATE_DATA" not in os.environ, reason="needs TIDEGATE_DATA")


@needs_data
@pytest.mark.parametrize(
    ("name", "vocabulary", "tokens"),
    [
        ("ptb", 10_000, [929_589, 73_760, 82_430]),
        ("tinyshakespeare", 66, [1_003_854, 55_769, 55_771]),
    ],
)
def test_the_known_texts_have_the_known_counts(
    name: str, vocabulary: int, tokens: list[int]
) -> None:
    dataset = find_dataset(name)
    corpus = read_corpus(name, text_files(dataset), dataset.unit)
    assert len(corpus.vocabulary) == vocabulary
    assert [len(corpus.train), len(corpus.validation), len(corpus.test)] == tokens


def test_a_check_counts_a_text(tmp_path: Path) -> None:
    recipe = write(
        tmp_path / "mine.toml",
        'name = "mine"\ntask = "language_modelling"\n[dataset]\nname = "text"\n'
        f'path = "{tmp_path}"\nfiles = ["a", "b", "c"]\n',
    )
    for name, text in (("a", PENN), ("b", "the ebb\n"), ("c", "gate\n")):
        write(tmp_path / name, text)
    counts = inspect_data.check(str(recipe)).counts
    assert list(counts["tokens"]) == [9, 3, 2]
    assert list(counts["unknown tokens"]) == pytest.approx([1 / 9, 1 / 3, 0.0])
    assert list(counts["vocabulary"]) == [7, 7, 7]
