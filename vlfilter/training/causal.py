"""The loss of a language model on the learnt positions of conversations with images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel
from vlfilter.training.conversation_data import IGNORED

CHUNK = 1024  # positions whose logits are in memory at once: 0.6 GB in float32 with a vocabulary of 150,000


def expand_labels(input_ids: Tensor, labels: Tensor, image_tokens: int) -> Tensor:
    """Labels (L,) of ids (L,) → labels of the sequence in which every image has taken its positions."""
    repeats = torch.where(input_ids == IMAGE_TOKEN, image_tokens, 1)
    return labels.repeat_interleave(repeats)


class VocabularyLoss(nn.Module):
    """Cross entropy of hidden states (N, hidden) against tokens (N,), their mean, in float32.

    Logits of all positions would not fit into memory: they are made a chunk at a time, and again on the way back. The
    weight is this module's own parameter (shared with the head or the table of embeddings), read once however many
    chunks a process has: ZeRO-3 wants the same order of reads from all processes.
    """

    def __init__(self, weight: nn.Parameter, softcap: float | None):
        super().__init__()
        self.weight = weight
        self.softcap = softcap

    def forward(self, states: Tensor, targets: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        for part in self.chunks(states, targets, "sum"):
            total = total + part
        return total / len(targets)

    def chunks(self, states: Tensor, targets: Tensor, reduction: str) -> Iterator[Tensor]:
        """The cross entropies of some positions after the other: `sum` () or `none` (n,). Called in `forward`."""
        weight = self.weight

        def part(some: Tensor, tokens: Tensor) -> Tensor:
            logits = nn.functional.linear(some.to(weight.dtype), weight).float()
            if self.softcap is not None:
                logits = torch.tanh(logits / self.softcap) * self.softcap
            return nn.functional.cross_entropy(logits, tokens, reduction=reduction)

        for some, tokens in zip(states.split(CHUNK), targets.split(CHUNK), strict=True):
            yield checkpoint(part, some, tokens, use_reentrant=False)


class TokenLosses(VocabularyLoss):
    """The same, a loss (N,) for each position."""

    def forward(self, states: Tensor, targets: Tensor) -> Tensor:
        return torch.cat(list(self.chunks(states, targets, "none")))


class CausalVlm(nn.Module):
    """A vision-language model with its loss, as transformers' Trainer calls it."""

    def __init__(self, vlm: VisionLanguageModel):
        super().__init__()
        self.vlm = vlm
        self.config = vlm.config.body  # the Trainer sizes ZeRO's buckets by its hidden_size
        weight: Any = vlm.body.get_input_embeddings().weight if vlm.tied else vlm.lm_head.weight
        self.loss = VocabularyLoss(weight, getattr(vlm.config.body, "final_logit_softcapping", None))

    def forward(
        self, input_ids: Sequence[Tensor], labels: Sequence[Tensor], images: Sequence[Tensor | None]
    ) -> dict[str, Tensor]:
        """`loss` is the mean over all learnt positions of the batch, `tokens` the positions that were run.

        `input_ids` and `images` as `VisionLanguageModel.encode` takes them; `labels[i]` (L_i,), the ids themselves
        where they are learnt and `IGNORED` elsewhere.
        """
        hidden = self.vlm.encode(input_ids, images)
        size = self.vlm.image_tokens
        wanted = [expand_labels(ids, given, size) for ids, given in zip(input_ids, labels, strict=True)]
        targets = nn.utils.rnn.pad_sequence(wanted, batch_first=True, padding_value=IGNORED)
        states, following = hidden.states[:, :-1], targets[:, 1:]  # a state predicts the token after it
        learnt = following != IGNORED
        return {"loss": self.loss(states[learnt], following[learnt]), "tokens": hidden.lengths.sum()}
