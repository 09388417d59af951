"""Generated sentences whose labels need the words to the right.

Every sentence begins with a homograph: a form that is a noun or a verb, like
"watch" or "light". Nothing before it tells which. Some adverbs follow, and only
then the word that decides:

    watch now quietly the boat .     VERB: an object follows, this is an order
    watch now quietly stopped .      NOUN: a finite verb follows, this is its subject

Further clauses follow after a conjunction, each with a homograph of its own
that is as free as the first. Both readings are equally likely, and the adverbs
say nothing, so a network that reads from left to right can do no better on the
homographs than guess one half of them, while one that also reads from right to
left can label all of them. Every other word has one label only.
"""

import random

from tidegate.train.data.sentences import Sentence, SentenceSplit

HOMOGRAPHS = ("watch", "light", "park", "train", "book", "fish", "paint", "water", "cook", "guard")
NOUNS = ("boat", "gate", "tide", "river", "harbour", "signal", "lamp", "engine", "garden", "letter")
FINITE_VERBS = ("stopped", "vanished", "arrived", "returned", "failed", "waited", "slept", "fell")
ADVERBS = ("now", "quietly", "slowly", "often", "again", "here", "later", "soon")
DETERMINERS = ("the", "a", "this", "that")
CONJUNCTIONS = ("and", "but", "then")

MAX_ADVERBS = 6
MAX_CLAUSES = 3


def generate_homographs(sentences: int, *, seed: int = 0) -> SentenceSplit:
    """Generates sentences; the same for the same seed.

    Args:
        sentences: of all parts together: 80 % train, 10 % validation, 10 % test.
        seed: of Python's generator.

    Raises:
        ValueError: fewer than 10 sentences, so that a part would be empty.
    """
    if sentences < 10:
        raise ValueError(f"sentences={sentences!r} is too few; give at least 10")
    draw = random.Random(seed)  # noqa: S311 - nothing here is secret
    everything = tuple(_sentence(draw) for _ in range(sentences))
    train, validation = sentences * 8 // 10, sentences * 9 // 10
    return SentenceSplit(
        "homographs", everything[:train], everything[train:validation], everything[validation:]
    )


def _sentence(draw: random.Random) -> Sentence:
    pairs = _clause(draw)
    for _ in range(draw.randint(0, MAX_CLAUSES - 1)):
        pairs += [(draw.choice(CONJUNCTIONS), "CCONJ"), *_clause(draw)]
    words, labels = zip(*pairs, (".", "PUNCT"), strict=True)
    return Sentence(words, labels)


def _clause(draw: random.Random) -> list[tuple[str, str]]:
    is_verb = draw.random() < 0.5
    homograph = (draw.choice(HOMOGRAPHS), "VERB" if is_verb else "NOUN")
    adverbs = [(draw.choice(ADVERBS), "ADV") for _ in range(draw.randint(1, MAX_ADVERBS))]
    if is_verb:
        return [
            homograph,
            *adverbs,
            (draw.choice(DETERMINERS), "DET"),
            (draw.choice(NOUNS), "NOUN"),
        ]
    return [homograph, *adverbs, (draw.choice(FINITE_VERBS), "VERB")]
