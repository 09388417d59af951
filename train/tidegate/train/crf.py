"""A linear-chain conditional random field: labels that are scored as a whole.

    score(y | x) = start[y_1] + sum_t logits[t, y_t] + sum_t transitions[y_{t-1}, y_t] + end[y_L]

and p(y | x) is the softmax of the scores of all N^L sequences of labels. What is
summed over all of them is computed step by step, in log space.

Source: Lafferty, McCallum and Pereira 2001, "Conditional Random Fields"; Rabiner
1989, "A Tutorial on Hidden Markov Models", for the forward-backward and Viterbi
recursions.

Dimensions: B batch (sentences), T time (words), N labels.
"""

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_positive


class LinearChainCRF(nn.Module):
    """Transitions between neighbouring labels; the logits come from a network.

    Every method takes ``logits`` [B, T, N] and ``lengths``, integers [B], each from
    1 to T. What lies in padding has no influence.

    Args:
        labels: N.

    Raises:
        ValueError: there is no label.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        check_positive("labels", labels)
        # [from, to]
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.start = nn.Parameter(torch.zeros(labels))
        self.end = nn.Parameter(torch.zeros(labels))

    def forward(self, logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The negative log-likelihood of each sentence, -log p(y | x), [B].

        Args:
            logits: [B, T, N].
            labels: int64 [B, T], from 0 to N - 1 but in padding.
            lengths: [B].

        Raises:
            ValueError: a word has no label of the N.
        """
        return self.log_partition(logits, lengths) - self.score(logits, labels, lengths)

    def score(self, logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The score of one sequence of labels for each sentence, [B].

        Raises:
            ValueError: a word has no label of the N.
        """
        real = _real(logits, lengths)
        if (labels[real] < 0).any():
            raise ValueError("labels hold a word without a label; a CRF scores whole sequences")
        labels = labels.masked_fill(~real, 0)
        emitted = logits.gather(2, labels[:, :, None])[:, :, 0]
        moved = self.transitions[labels[:, :-1], labels[:, 1:]]
        steps = (emitted * real).sum(dim=1) + (moved * real[:, 1:]).sum(dim=1)
        last = labels.gather(1, (lengths - 1)[:, None])[:, 0]
        return self.start[labels[:, 0]] + steps + self.end[last]

    def log_partition(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """The logarithm of the sum of exp(score) over all sequences of labels, [B]."""
        real = _real(logits, lengths)
        alpha = self.start + logits[:, 0]
        for t in range(1, logits.shape[1]):
            new = self._onward(alpha) + logits[:, t]
            alpha = torch.where(real[:, t, None], new, alpha)
        return (alpha + self.end).logsumexp(dim=1)

    def decode(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """The sequence of labels with the highest score (Viterbi), int64 [B, T].

        In padding stands the last label again.
        """
        real = _real(logits, lengths)
        stay = torch.arange(logits.shape[2], device=logits.device).expand_as(logits[:, 0])
        delta = self.start + logits[:, 0]
        pointers: list[Tensor] = []
        for t in range(1, logits.shape[1]):
            best, pointer = (delta[:, :, None] + self.transitions).max(dim=1)
            new = best + logits[:, t]
            # Only differences count; what grew with time would lose digits.
            new = new - new.amax(dim=1, keepdim=True)
            delta = torch.where(real[:, t, None], new, delta)
            pointers.append(torch.where(real[:, t, None], pointer, stay))
        label = (delta + self.end).argmax(dim=1, keepdim=True)
        path = [label]
        for pointer in reversed(pointers):
            label = pointer.gather(1, label)
            path.append(label)
        return torch.cat(path[::-1], dim=1)

    def marginals(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """The probability of each label for each word, over all sequences, [B, T, N].

        Without meaning in padding.
        """
        real = _real(logits, lengths)
        alphas = [(self.start + logits[:, 0]).log_softmax(dim=1)]
        for t in range(1, logits.shape[1]):
            new = (self._onward(alphas[-1]) + logits[:, t]).log_softmax(dim=1)
            alphas.append(torch.where(real[:, t, None], new, alphas[-1]))
        betas = [self.end.expand_as(logits[:, 0])]
        for t in range(logits.shape[1] - 1, 0, -1):
            new = self._backward(betas[-1] + logits[:, t]).log_softmax(dim=1)
            betas.append(torch.where(real[:, t, None], new, betas[-1]))
        joint = torch.stack(alphas, dim=1) + torch.stack(betas[::-1], dim=1)
        return joint.softmax(dim=2)

    def _onward(self, alpha: Tensor) -> Tensor:
        """Log sum_i exp(alpha[i] + transitions[i, j]), [B, N]."""
        return (alpha[:, :, None] + self.transitions).logsumexp(dim=1)

    def _backward(self, beta: Tensor) -> Tensor:
        """Log sum_j exp(transitions[i, j] + beta[j]), [B, N]."""
        return (beta[:, None, :] + self.transitions).logsumexp(dim=2)


def _real(logits: Tensor, lengths: Tensor) -> Tensor:
    """Which words are not padding, bool [B, T]."""
    return torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
