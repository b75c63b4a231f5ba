"""The loss of Self-Filter's stage 1: each sample's loss weighs what the score net gives it among its batch.

Differences from the published code (arXiv 2402.12501), all on purpose: log_softmax never underflows, logits are made a
chunk at a time, a batch without learnt positions is no division by zero, and two options correct what it mixes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.training.causal import TokenLosses, expand_labels
from vlfilter.training.conversation_data import IGNORED
from vlfilter.training.score_net import ScoreNet

SampleLoss = Literal["token_sum", "sample_mean"]
Scope = Literal["local", "global"]


class Weighted(NamedTuple):
    """`loss` is one number, `weights` (B,) are w, which sum to 1; both in float32."""

    loss: Tensor
    weights: Tensor


def by_sample(losses: Tensor, learnt: Tensor) -> Tensor:
    """Losses (N,) of the learnt positions, in reading order of `learnt` (B, L) bool → (B, L), zero elsewhere."""
    return losses.new_zeros(learnt.shape).masked_scatter(learnt, losses)


def weighted_loss(scores: Tensor, losses: Tensor, tokens: Tensor, kind: SampleLoss) -> Weighted:
    """w = softmax(scores) over the B samples of a batch, in the type of `scores` (B,).

    `losses` (B, L) are those of positions, zero where nothing is learnt; `tokens` (B,) how many positions are.
    `token_sum`, as published: (B / n) Σ w_i S_i, with S_i a sample's summed losses and n = Σ `tokens`. Equal scores
    make it the usual mean over positions; a long sample counts as a hard one. `sample_mean`: Σ w_i S_i / `tokens[i]`,
    which is blind to length. Either way the loss does not change when all scores move by the same amount, so the zero
    of the scores means nothing.
    """
    weights = scores[:, None].softmax(0)  # a column: in bfloat16 it rounds as published, and so does what follows
    if kind == "token_sum":
        loss = ((len(scores) * weights).expand(losses.shape) * losses).sum() / tokens.sum().clamp(min=1)
    else:
        loss = (weights.expand(losses.shape) * losses / tokens.clamp(min=1)[:, None]).sum()
    return Weighted(loss, weights[:, 0].float())


def weighted_loss_of_all(scores: Tensor, losses: Tensor, tokens: Tensor, kind: SampleLoss) -> Weighted:
    """`weighted_loss` over the batches of all processes, which must be equally large, joined in their order.

    Each process learns from its own samples only, the others' are numbers to it; the gradients' mean over processes,
    which training takes, is then that of the joint loss. Three numbers a sample are exchanged, in the forward pass
    only: nothing gets between the collectives that ZeRO makes on the way back.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return weighted_loss(scores, losses, tokens, kind)
    world, rank = dist.get_world_size(), dist.get_rank()
    own = torch.stack([scores.detach().float(), losses.detach().sum(1), tokens.float()])
    told = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(told, own)

    def joined(mine: Tensor, row: int) -> Tensor:
        """Of the others, one number a sample stands for all its positions."""
        others = [numbers[row].to(mine.dtype) for numbers in told]
        if mine.ndim > 1:
            others = [nn.functional.pad(numbers[:, None], (0, mine.shape[1] - 1)) for numbers in others]
        return torch.cat([mine if i == rank else numbers for i, numbers in enumerate(others)])

    joint = weighted_loss(joined(scores, 0), joined(losses, 1), joined(tokens, 2), kind)
    # the joint loss, with gradients that their mean over processes divides by `world` again
    return Weighted(world * joint.loss - (world - 1) * joint.loss.detach(), joint.weights)


class WeightedVlm(nn.Module):
    """A vision-language model and a score net with their loss, as transformers' Trainer calls them."""

    def __init__(self, vlm: VisionLanguageModel, score_net: ScoreNet, kind: SampleLoss, scope: Scope):
        super().__init__()
        self.vlm, self.score_net, self.kind, self.scope = vlm, score_net, kind, scope
        self.config = vlm.config.body  # the Trainer sizes ZeRO's buckets by its hidden_size
        weight: Any = vlm.body.get_input_embeddings().weight if vlm.tied else vlm.lm_head.weight
        self.loss = TokenLosses(weight, getattr(vlm.config.body, "final_logit_softcapping", None))

    def forward(
        self,
        input_ids: Sequence[Tensor],
        labels: Sequence[Tensor],
        images: Sequence[Tensor | None],
        features: Tensor,
    ) -> dict[str, Tensor]:
        """`loss`; `tokens`, the positions that were run; `weights`, B·w of the batch (all processes' with `global`);
        and `score_norm`, the norm of the score net's weight.

        `features` (B, dim) float32; the others as `CausalVlm.forward` takes them.
        """
        scores, norm = self.score_net(features)
        hidden = self.vlm.encode(input_ids, images)
        size = self.vlm.image_tokens
        wanted = [expand_labels(ids, given, size) for ids, given in zip(input_ids, labels, strict=True)]
        targets = nn.utils.rnn.pad_sequence(wanted, batch_first=True, padding_value=IGNORED)
        states, following = hidden.states[:, :-1], targets[:, 1:]  # a state predicts the token after it
        learnt = following != IGNORED
        losses = by_sample(self.loss(states[learnt], following[learnt]), learnt)
        weigh = weighted_loss_of_all if self.scope == "global" else weighted_loss
        loss, weights = weigh(scores, losses, learnt.sum(1), self.kind)
        return {
            "loss": loss, "tokens": hidden.lengths.sum(),
            "weights": len(weights) * weights.detach(), "score_norm": norm,
        }  # fmt: skip
