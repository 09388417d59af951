"""Which regularizers have a meaning together, and in which network."""

from collections.abc import Sequence

from tidegate.train.rates import check_shape, is_zero
from tidegate.train.regularizers import EmbeddingDropout, Regularizer, Site, Zoneout, find


def check_reads_numbers(regularizers: Sequence[Regularizer]) -> None:
    """Checks that nothing masks words, for a network that reads numbers.

    Raises:
        ValueError: something does.
    """
    if find(regularizers, EmbeddingDropout):
        raise ValueError(
            "regularizers: embedding_dropout drops words, and a forecaster reads numbers; leave it "
            "out, or drop inputs with zaremba or variational"
        )


def check_combination(
    regularizers: Sequence[Regularizer],
    cell: str,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
) -> None:
    """Checks that methods have a meaning together, and in the network.

    Raises:
        ValueError: two methods mask the same site, the cell has no such site, or
            rates do not fit the layers and directions.
    """
    taken: dict[Site, Regularizer] = {}
    for method in regularizers:
        for site in method.sites:
            if site in taken:
                raise ValueError(
                    f"regularizers={[one.name for one in regularizers]}: {taken[site].name} and "
                    f"{method.name} both mask the {site.value}; keep one of them"
                    + (" or set hidden_p=0 or p=0" if method.name == "variational" else "")
                )
            taken[site] = method
        check_shape(
            method.name, method.layered_rates, num_layers=num_layers, bidirectional=bidirectional
        )
    if cell == "rnn" and Site.CANDIDATE in taken:
        raise ValueError(
            "regularizers=['semeniuta'] with cell='rnn': a simple RNN has no candidate apart "
            "from its memory, so a mask on it would drop the memory; use cell='gru' or 'lstm'"
        )
    zoneout = find(regularizers, Zoneout)
    if zoneout is not None and cell != "lstm":
        _check_zoneout_without_c(zoneout, cell)


def _check_zoneout_without_c(zoneout: Zoneout, cell: str) -> None:
    if zoneout.shared:
        raise ValueError(
            f"zoneout: shared=True with cell={cell!r}, which has no c beside h to share a mask "
            "with; set shared=False, or use cell='lstm'"
        )
    if is_zero(zoneout.hidden) and not is_zero(zoneout.cell):
        raise ValueError(
            f"zoneout: hidden={zoneout.hidden!r} with cell={cell!r} would change nothing, since "
            "there is no c to keep; give hidden a rate, or use cell='lstm'"
        )
