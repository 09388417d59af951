"""Scores of a language model: perplexity, and bits per character.

Dimensions: N tokens of a text, V tokens of the vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tidegate.train.data.buckets import IGNORED
from tidegate.train.data.corpus import Ids, Unit
from tidegate.train.data.text_lanes import text_segments
from tidegate.train.language_model import LanguageModel, States

# Steps of one call, and lines of the table of tokens.
_SEGMENT = 256
_LINES = 200


@dataclass(frozen=True)
class TokenLosses:
    """How surprised a model was by each token of a text.

    Attributes:
        tokens: ids of the tokens that were to be predicted, int64 [N - 1].
        nats: -log p of each, natural logarithm, float64 [N - 1].
        vocabulary: of the model.
        unit: what a token is.
        training_counts: how often each token occurs in the training part, int64 [V].
    """

    tokens: Ids
    nats: NDArray[np.float64]
    vocabulary: tuple[str, ...]
    unit: Unit
    training_counts: Ids

    def metrics(self) -> dict[str, float]:
        """``loss`` in nats per token, ``perplexity``; ``bits_per_character`` of characters.

        perplexity = exp(loss), bits per character = loss / log 2. Unknown tokens are
        predicted as "<unk>" and count like any other.
        """
        loss = float(self.nats.mean())
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if self.unit == "character":
            metrics["bits_per_character"] = loss / math.log(2.0)
        return metrics

    def by_token(self) -> pd.DataFrame:
        """The tokens that cost most of the loss, at most 200 of them.

        Columns: ``token``, ``count`` in this text, ``loss`` (its mean in nats), and
        ``share`` of the whole loss.
        """
        size = len(self.vocabulary)
        counts = np.bincount(self.tokens, minlength=size)
        totals = np.bincount(self.tokens, self.nats, minlength=size)
        costly = np.argsort(-totals, kind="stable")[:_LINES]
        costly = costly[counts[costly] > 0]
        return pd.DataFrame(
            {
                "token": [self.vocabulary[index] for index in costly],
                "count": counts[costly],
                "loss": totals[costly] / counts[costly],
                "share": totals[costly] / self.nats.sum(),
            }
        )

    def by_frequency(self) -> pd.DataFrame:
        """Perplexity of tokens by how often the training part has them, in powers of ten.

        Columns: ``from``, ``to``, ``count`` and ``share`` of the tokens, ``perplexity``.
        """
        seen = self.training_counts[self.tokens]
        bands = np.floor(np.log10(np.maximum(seen, 1))).astype(np.int64)
        bands[seen == 0] = -1
        rows = []
        for band in np.unique(bands):
            chosen = self.nats[bands == band]
            rows.append(
                {
                    "from": 0 if band < 0 else 10 ** int(band),
                    "to": 0 if band < 0 else 10 ** (int(band) + 1) - 1,
                    "count": len(chosen),
                    "share": len(chosen) / len(self.nats),
                    "perplexity": math.exp(min(float(chosen.mean()), 700.0)),
                }
            )
        return pd.DataFrame(rows)


@torch.no_grad()
def score_text(model: LanguageModel, ids: Ids, train: Ids, *, lanes: int = 1) -> TokenLosses:
    """Predicts every token but the first from all that came before it, state carried.

    Args:
        model: in evaluation mode, on any device.
        ids: of the text, int64 [N].
        train: of the training part, for the counts.
        lanes: 1: each token is predicted from the whole text before it. More run
            faster, and each begins without a state.
    """
    states: States | None = None
    losses = []
    targets = []
    device = model.bias.device
    for tokens, after in text_segments(ids, lanes, _SEGMENT):
        predicted = model(tokens.to(device), None, states)
        states = predicted.states
        flat = after.flatten()
        known = flat != IGNORED
        nats = F.cross_entropy(
            predicted.logits.flatten(0, 1),
            flat.to(device),
            ignore_index=IGNORED,
            reduction="none",
        )
        losses.append(nats.cpu()[known].double().numpy())
        targets.append(flat[known].numpy())
    size = len(model.vocabulary)
    return TokenLosses(
        np.concatenate(targets),
        np.concatenate(losses),
        model.vocabulary,
        model.unit,
        np.bincount(train, minlength=size),
    )
