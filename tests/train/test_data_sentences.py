"""Sentences: treebanks, vocabulary, the generator, buckets."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.data.buckets import IGNORED, Encoded, batches, buckets
from tidegate.train.data.catalog import CATALOG, find_dataset, sentence_files
from tidegate.train.data.conllu import read_conllu
from tidegate.train.data.homographs import ADVERBS, HOMOGRAPHS, NOUNS, generate_homographs
from tidegate.train.data.sentences import (
    Sentence,
    SentenceSplit,
    ambiguous_words,
    label_names,
    vocabulary,
)

TREEBANK = """\
# text = Du vent, il dit
5-6\tDu\t_\t_\t_\t_\t_\t_\t_\t_
5\tDe\tde\tADP\tP\t_\t0\t_\t_\t_
6\tle\tle\tDET\tD\t_\t0\t_\t_\t_
6.1\tabsent\t_\tVERB\tV\t_\t_\t_\t_\t_
7\tvent\tvent\tNOUN\tN\t_\t0\t_\t_\t_

1\tIl\til\tPRON\tN\t_\t0\t_\t_\t_
"""


@pytest.mark.parametrize("packed", [False, True])
def test_empty_nodes_and_multiword_lines_are_no_words(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("t.conllu.gz" if packed else "t.conllu")
    content = TREEBANK.encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    first, second = read_conllu(path)
    assert first == Sentence(("De", "le", "vent"), ("ADP", "DET", "NOUN"))
    assert second == Sentence(("Il",), ("PRON",))
    assert read_conllu(path, column="XPOS")[0].labels == ("P", "D", "N")


def test_a_line_without_ten_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.conllu"
    path.write_text("1\tDe\tde\n")
    with pytest.raises(ValueError, match=r"t.conllu, line 1: 3 columns instead of 10"):
        read_conllu(path)
    with pytest.raises(ValueError, match="column='POS' is unknown"):
        read_conllu(path, column="POS")
    with pytest.raises(ValueError, match="is no file; give the path of a text file"):
        read_conllu(tmp_path / "none.conllu")


def test_a_data_set_of_files_says_how_to_name_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TIDEGATE_DATA", raising=False)
    with pytest.raises(
        ValueError, match="set the environment variable TIDEGATE_DATA to the folder"
    ):
        sentence_files(find_dataset("ud_english_ewt"))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"has no folder 'ud_english_ewt_r2.5'; put data set"):
        sentence_files(find_dataset("ud_english_ewt"))


def test_the_treebank_is_read_from_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "ud_english_ewt_r2.5"
    folder.mkdir()
    for part in ("train", "dev", "test"):
        path = folder / f"en_ewt-ud-{part}.conllu.gz"
        path.write_bytes(gzip.compress(TREEBANK.encode()))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    split = sentence_files(find_dataset("ud_english_ewt")).read()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [2, 2, 2]


def test_an_unknown_data_set_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'homographs'"):
        find_dataset("homograph")
    assert find_dataset("co2") is CATALOG["co2"]


def test_a_sentence_has_a_label_for_each_word() -> None:
    with pytest.raises(ValueError, match="2 words and 1 labels"):
        Sentence(("a", "b"), ("X",))


def test_the_vocabulary_leaves_rare_words_out() -> None:
    train = [Sentence(("The", "the", "gate"), ("D", "D", "N"))]
    assert vocabulary(train) == ["<pad>", "<unk>", "the", "gate"]
    assert vocabulary(train, min_count=2) == ["<pad>", "<unk>", "the"]
    assert vocabulary(train, lower_case=False) == ["<pad>", "<unk>", "The", "gate", "the"]
    assert label_names(train) == ["D", "N"]


def test_a_digest_changes_with_a_label_and_with_the_part() -> None:
    a, b = Sentence(("a",), ("X",)), Sentence(("a",), ("Y",))
    splits = [SentenceSplit("s", *parts) for parts in (((a,), (b,), ()), ((b,), (a,), ()))]
    splits.append(SentenceSplit("s", (a, b), (), ()))
    assert len({split.digest() for split in splits}) == 3


# The generator


def test_generated_sentences_follow_from_the_seed() -> None:
    assert generate_homographs(50, seed=1) == generate_homographs(50, seed=1)
    assert generate_homographs(50, seed=1) != generate_homographs(50, seed=2)


def test_only_homographs_are_ambiguous() -> None:
    train = generate_homographs(500).train
    assert ambiguous_words(train) == set(HOMOGRAPHS)


def test_the_words_to_the_left_say_nothing_about_a_homograph() -> None:
    everything = generate_homographs(4000).train
    verbs = [label == "VERB" for one in everything for _, label in _homographs(one)]
    # 4 standard errors around one half.
    assert abs(sum(verbs) / len(verbs) - 0.5) < 4 * 0.5 / len(verbs) ** 0.5


def test_the_first_word_after_the_adverbs_decides() -> None:
    for one in generate_homographs(300).train:
        for position, label in _homographs(one):
            following = next(w for w in one.words[position + 1 :] if w not in ADVERBS)
            is_order = one.labels[one.words.index(following, position)] == "DET"
            assert (label == "VERB") == is_order


def _homographs(sentence: Sentence) -> list[tuple[int, str]]:
    assert not set(HOMOGRAPHS) & set(NOUNS)
    return [
        (position, label)
        for position, (word, label) in enumerate(zip(sentence.words, sentence.labels, strict=True))
        if word in HOMOGRAPHS
    ]


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="sentences=9 is too few; give at least 10"):
        generate_homographs(9)


# Buckets

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 100), st.none() | st.integers(0, 5))
def test_each_sentence_is_in_one_batch_within_the_budget(
    lengths: list[int], budget: int, seed: int | None
) -> None:
    groups = buckets(lengths, budget, seed=seed)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget


def test_a_shuffle_follows_from_its_seed() -> None:
    lengths = [3] * 50
    assert buckets(lengths, 9, seed=1) == buckets(lengths, 9, seed=1)
    assert buckets(lengths, 9, seed=1) != buckets(lengths, 9, seed=2)


def test_padding_is_zero_and_never_counts() -> None:
    [(rows, batch)] = batches([Encoded([5, 6, 7], [0, 1, 0]), Encoded([8], [1])], 100)
    assert rows == [1, 0]
    assert batch.tokens.tolist() == [[8, 0, 0], [5, 6, 7]]
    assert batch.labels.tolist() == [[1, IGNORED, IGNORED], [0, 1, 0]]
    assert batch.lengths.tolist() == [1, 3]
    assert batch.chars is None


def test_characters_are_padded_to_the_longest_word_of_the_batch() -> None:
    sentences = [Encoded([5], characters=[[2, 3, 4]]), Encoded([6, 7], characters=[[2], []])]
    [(_, batch)] = batches(sentences, 100)
    assert batch.chars is not None
    assert batch.chars.tolist() == [[[2, 3, 4], [0, 0, 0]], [[2, 0, 0], [0, 0, 0]]]
    [(_, batch)] = batches([Encoded([5], characters=[[]])], 100)
    assert batch.chars is not None
    assert batch.chars.tolist() == [[[0]]]
