"""Formats of sentences in files, and the problems of each."""

import gzip
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tidegate.train.__main__ import main
from tidegate.train.build import load_data
from tidegate.train.config import Config
from tidegate.train.data.catalog import CATALOG, find_dataset, sentence_files
from tidegate.train.data.check_sentences import check_files
from tidegate.train.data.conll import read_conll
from tidegate.train.data.conllu import read_conllu
from tidegate.train.data.labelled_lines import read_labelled_lines
from tidegate.train.data.sentence_files import Layout, SentenceFiles
from tidegate.train.data.sentences import Sentence, SentenceSplit
from tidegate.train.data.slots import read_slots
from tidegate.train.data.text import Problem, read_lines


def slots(folder: Path, words: str, labels: str, intents: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("seq.in", words), ("seq.out", labels), ("label", intents)):
        (folder / name).write_text(text)
    return folder


# Lines


def test_a_byte_in_another_encoding_is_named_with_its_line_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes("1 good\n0 cliché\n".encode("latin-1"))
    text = r"s.txt, line 2: byte 0xe9 at column 8 is not utf-8; .* dataset.encoding = 'latin-1'"
    with pytest.raises(ValueError, match=text):
        read_labelled_lines(path)
    assert read_labelled_lines(path, encoding="latin-1")[1].words == ("cliché",)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf8x", "encoding='utf8x' is unknown"), ("utf-16", "convert the file to UTF-8")],
)
def test_an_encoding_that_cannot_be_read_is_refused(
    tmp_path: Path, encoding: str, text: str
) -> None:
    path = tmp_path / "s.txt"
    path.write_text("1 good\n")
    with pytest.raises(ValueError, match=text):
        read_labelled_lines(path, encoding=encoding)


def test_only_a_line_feed_ends_a_line_and_a_no_break_space_no_word(tmp_path: Path) -> None:
    path = tmp_path / "s.txt.gz"
    content = "\ufeff1 10\u00a0000 a\u2028b\r\n0\tbad\x85 film\n"
    path.write_bytes(gzip.compress(content.encode()))
    first, second = read_labelled_lines(path)
    assert (first.label, first.words) == ("1", ("10\u00a0000", "a\u2028b"))
    assert (second.label, second.words) == ("0", ("bad\x85", "film"))


def test_lines_are_counted_from_one_after_a_line_that_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(b"a\n\xff\nc\n")
    problems: list[Problem] = []
    assert list(read_lines(path, report=problems.append)) == [(1, "a"), (3, "c")]
    assert [(one.file, one.line) for one in problems] == [(path, 2)]


# Columns

COLUMNS = """\
-DOCSTART- -X- -X- O

EU NNP B-NP S-ORG
# NN I-NP O

-DOCSTART- -X- -X- O
Peter\tNNP\tB-NP\tS-PER
"""


def test_columns_are_read_by_number_and_documents_divide_sentences(tmp_path: Path) -> None:
    path = tmp_path / "eng.train"
    path.write_text(COLUMNS)
    first, second = read_conll(path)
    assert first == Sentence(("EU", "#"), ("S-ORG", "O"))
    assert second == Sentence(("Peter",), ("S-PER",))
    assert first.origin == (path, 3)
    assert second.origin == (path, 7)
    assert read_conll(path, word_column=-3, label_column=0)[0].labels == ("EU", "#")


def test_a_line_without_its_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "eng.train"
    path.write_text("EU S-ORG\nrejects\n")
    with pytest.raises(ValueError, match="line 2: 1 columns instead of at least 2; each word"):
        read_conll(path)
    with pytest.raises(ValueError, match="line 1: 2 columns instead of at least 4"):
        read_conll(path, label_column=3)
    with pytest.raises(ValueError, match="word_column and label_column are both 1"):
        read_conll(path, word_column=1, label_column=1)


# CoNLL-U


def test_an_id_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.conllu"
    rest = "\t_" * 9
    path.write_text(f"1{rest}\nx{rest}\n0.1{rest}\n2-3{rest}\n")
    with pytest.raises(ValueError, match=r"line 2: ID 'x' is none of a word \(5\), a range"):
        read_conllu(path)


# Slots


def test_a_folder_of_slots_has_words_labels_and_intents(tmp_path: Path) -> None:
    folder = slots(tmp_path, " to  new york \nnow\n", "O B-to I-to\nO\n", "flight#fare\ntime\n")
    first, second = read_slots(folder)
    assert first == Sentence(("to", "new", "york"), ("O", "B-to", "I-to"), "flight#fare")
    assert second.origin == (folder / "seq.in", 2)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (("a b\n", "O\n", "x\n"), r"seq.out, line 1: 2 words and 1 slot labels; 'b' has no label"),
        (("a\n", "O O\n", "x\n"), r"seq.out, line 1: .*; 'O' has no word"),
        (("\n", "\n", "x\n"), r"seq.out, line 1: the sentence is empty"),
        (("a\n", "O\n", " \n"), r"label, line 1: the intent is missing"),
        (("a\nb\n", "O\nO\n", "x\n"), r"label, line 2: .* seq.in 2, seq.out 2, label 1"),
    ],
)
def test_slots_that_do_not_fit_are_named(
    tmp_path: Path, files: tuple[str, str, str], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        read_slots(slots(tmp_path, *files))


def test_a_line_in_another_encoding_shifts_no_other(tmp_path: Path) -> None:
    folder = slots(tmp_path, "a\nb\nc\n", "O\nO\nO\n", "x\ny\nz\n")
    (folder / "seq.in").write_bytes(b"a\n\xff\nc\n")
    problems: list[Problem] = []
    read = read_slots(folder, report=problems.append)
    assert [(one.words, one.label) for one in read] == [(("a",), "x"), (("c",), "z")]
    assert [one.line for one in problems] == [2]


# Labelled lines


def test_a_label_without_words_is_named_and_empty_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("1 good .\n\n0 bad\n")
    assert read_labelled_lines(path)[1] == Sentence(("bad",), (), "0")
    path.write_text("1 good .\n0\n")
    with pytest.raises(ValueError, match="line 2: '0' stands alone; give a label, a space"):
        read_labelled_lines(path)


# Three parts


def files(folder: Path, name: str = "slots", **layout: Any) -> SentenceFiles:
    return sentence_files(
        find_dataset(name),
        path=folder,
        layout=Layout(**layout),
    )


@pytest.fixture
def three(tmp_path: Path) -> Path:
    slots(tmp_path / "train", "to york\nfrom york\n", "O B-to\nO B-from\n", "flight\nfare\n")
    slots(tmp_path / "valid", "to york\n", "O B-to\n", "flight\n")
    slots(tmp_path / "test", "via york\nvia rome\n", "O B-via\nO B-via\n", "fare#flight\nfare\n")
    return tmp_path


def test_a_check_counts_and_names_what_the_training_part_lacks(three: Path) -> None:
    checked = check_files(files(three))
    test = checked.counts.set_index("part").loc["test"]
    assert (test["sentences"], test["words"], test["spans"]) == (2, 4, 2)
    assert test["unknown words"] == 3 / 4
    assert checked.problems == ()
    where = f"first at {three}/test/seq.in, line 1"
    assert checked.notices == (
        f"test: label 'B-via' is not in the training part (2 times, {where})",
        f"test: sentence label 'fare#flight' is not in the training part (1 times, {where})",
        (
            "sentence labels of two, such as a#b, each counted as a label of its own: train 0, "
            "validation 0, test 1"
        ),
        "validation: 1 sentences (100.0%) are in the training part word for word",
    )


def test_a_check_goes_on_after_a_problem_and_ends_with_an_error(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots(three / "train", "a\nb c\nd\n", "O\nO\nO O\n", "x\ny\nz\n")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'name = "own"\ntask = "labelling"\n[dataset]\nname = "slots"\npath = "{three}"\n'
    )
    assert main(["data", "check", str(recipe)]) == 2
    said = capsys.readouterr()
    assert said.out.count("problem: ") == 2
    assert "seq.out, line 2: 2 words and 1 slot labels; 'c' has no label" in said.out
    assert "2 problems in" in said.err


def test_a_scheme_is_applied_to_every_part(three: Path) -> None:
    split = files(three, scheme="iobes").read()
    assert [one.labels for one in split.train] == [("O", "S-to"), ("O", "S-from")]


def test_labels_without_spans_have_no_scheme(three: Path) -> None:
    slots(three / "train", "a b\n", "O NOUN\n", "x\n")
    with pytest.raises(ValueError, match=r"seq.in, line 1: in this sentence, label 'NOUN' is no"):
        files(three, scheme="bio").read()


def test_a_configuration_names_folder_files_and_columns(tmp_path: Path) -> None:
    for part in ("a", "b", "c"):
        (tmp_path / part).write_text(f"X\t{part}\tY\n")
    config = Config.model_validate(
        {
            "name": "own",
            "task": "labelling",
            "dataset": {
                "name": "conll",
                "path": tmp_path,
                "files": ["a", "b", "c"],
                "word_column": 1,
                "label_column": "0",
            },
        }
    )
    data = load_data(config)
    assert isinstance(data, SentenceSplit)
    assert (data.train, data.test) == ((Sentence(("a",), ("X",)),), (Sentence(("c",), ("X",)),))


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("conll", {}, "dataset.path is missing; give the folder of the files"),
        ("conll", {"path": Path()}, r"dataset.files=\[\]; give three: of training, validation"),
        ("co2", {}, "dataset.name='co2' is not read from files of sentences"),
    ],
)
def test_files_that_are_not_known_are_refused(name: str, given: dict[str, Path], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sentence_files(CATALOG[name], path=given.get("path"))


def test_a_column_of_columns_has_no_name(tmp_path: Path) -> None:
    for part in "abc":
        (tmp_path / part).write_text("x X\n")
    own = SentenceFiles(
        "own", "conll", tuple(tmp_path / part for part in "abc"), Layout(label_column="UPOS")
    )
    with pytest.raises(ValueError, match="label_column='UPOS' is no number"):
        own.read()


def test_a_part_without_a_sentence_is_refused(three: Path) -> None:
    slots(three / "valid", "", "", "")
    with pytest.raises(ValueError, match="valid holds no sentence in the format 'slots'"):
        files(three).read()


def test_generated_sentences_and_series_are_checked_by_their_recipe() -> None:
    recipes = Path(__file__).parents[2] / "models" / "recipes"
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["data", "check", str(recipes / "homographs.toml")]) == 0
        assert main(["data", "check", str(recipes / "co2.toml")]) == 0
    assert "3200" in out.getvalue()
    assert "1658" in out.getvalue()


def test_a_set_that_needs_a_recipe_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "homographs"]) == 2
    assert "is read by the settings of a recipe; give its TOML file" in capsys.readouterr().err
