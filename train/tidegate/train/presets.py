"""Recipes of several regularizers that published work found to go together."""

from collections.abc import Callable, Mapping

from tidegate.train.regularizers import EmbeddingDropout, Regularizer, WeightDrop, Zaremba


def awd(num_layers: int, *, words: bool) -> tuple[Regularizer, ...]:
    """Weight drop, masks per sequence on all inputs, and dropout of words.

    The rates are those of the 650-unit network of Wen et al. 2018 (table 3, 75.71
    test perplexity on Penn Treebank): 0.4 on the first input and the top output,
    0.3 between layers, 0.5 on W_hh, 0.1 on words.

    Sources: Merity, Keskar and Socher 2017, arXiv 1708.02182; Wen, Vicol, Ba,
    Tran and Grosse 2018, arXiv 1803.04386.

    Args:
        num_layers: L.
        words: whether the network reads words; else there are none to drop.
    """
    inputs = Zaremba((0.4, *[0.3] * (num_layers - 1)), granularity="sequence", output_p=0.4)
    recipe = (WeightDrop(0.5), inputs)
    return (*recipe, EmbeddingDropout(0.1)) if words else recipe


PRESETS: Mapping[str, Callable[..., tuple[Regularizer, ...]]] = {"awd": awd}
