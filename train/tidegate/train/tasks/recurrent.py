"""The recurrent stack of ``[model]``, for every task."""

from tidegate.train.config import Config
from tidegate.train.recurrent import Recurrent


def build_recurrent(config: Config, input_size: int) -> Recurrent:
    """Builds the recurrent stack of ``[model]``."""
    section = config.model
    return Recurrent(
        section.cell,
        input_size,
        section.hidden_size,
        section.num_layers,
        bidirectional=section.bidirectional,
        regularizers=section.build_regularizers(config.task),
        reset_after=section.reset_after,
        merge=section.merge,
    )
