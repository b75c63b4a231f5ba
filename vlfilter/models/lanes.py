"""Several questions about one image and caption in one forward pass.

A row is a common prefix followed by lanes (the questions). A lane sees the prefix and itself, never another lane, and
its positions go on from the prefix: each lane's states are those of the prefix and this lane run alone. A body with a
sliding window gives the same as long as prefix, lane and answer fit into its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel


@dataclass(frozen=True, slots=True)
class Row:
    """`prefix` with `IMAGE_TOKEN` where the image stands; `lanes` without any, none of them empty."""

    prefix: Sequence[int]
    lanes: Sequence[Sequence[int]]

    @property
    def ids(self) -> list[int]:
        return [*self.prefix, *(token for lane in self.lanes for token in lane)]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a batch lies, all (B, L): `lane` is 0 in the prefix and -1 in padding, `node` -1 outside the tree."""

    lane: Tensor
    position: Tensor
    node: Tensor
    read: Tensor  # (B, lanes, nodes) columns whose next-token distribution is wanted


def _plan(rows: Sequence[Row], image_tokens: int, tree: Sequence[tuple[int, ...]]) -> _Plan:
    layouts = []
    for row in rows:
        images = sum(token == IMAGE_TOKEN for token in row.prefix)
        length = len(row.prefix) + images * (image_tokens - 1)
        lane, position, node, read = [0] * length, list(range(length)), [-1] * length, []
        for number, tokens in enumerate(row.lanes, 1):
            lane += [number] * len(tokens)
            position += range(length, length + len(tokens))
            node += [-1] * len(tokens)
            last = length + len(tokens) - 1
            reads = [len(lane) - 1]
            for index, path in enumerate(tree[1:], 1):
                lane.append(number)
                position.append(last + len(path))
                node.append(index)
                reads.append(len(lane) - 1)
            read.append(reads)
        layouts.append((lane, position, node, read))
    longest = max(len(lane) for lane, _, _, _ in layouts)

    def padded(column: int, fill: int) -> Tensor:
        return torch.tensor([layout[column] + [fill] * (longest - len(layout[column])) for layout in layouts])  # type: ignore[operator]

    return _Plan(padded(0, -1), padded(1, 0), padded(2, -1), torch.tensor([layout[3] for layout in layouts]))


def _mask(plan: _Plan, tree: Sequence[tuple[int, ...]]) -> Tensor:
    """(B, 1, L, L), true where the row's token may look."""
    lane, node = plan.lane, plan.node
    length = lane.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=lane.device).tril()
    seen = causal & ((lane[:, None, :] == 0) | (lane[:, None, :] == lane[:, :, None]))
    if len(tree) > 1:
        line = torch.tensor([[a == b[: len(a)] for a in tree] for b in tree], device=lane.device)  # a is b or before it
        seen &= (node[:, None, :] < 0) | line[node.clamp(min=0)[:, :, None], node.clamp(min=0)[:, None, :]]
    # a padded row must see something, or its softmax is not a number
    seen |= torch.eye(length, dtype=torch.bool, device=lane.device)
    return seen[:, None]


def tree_log_probabilities(
    model: VisionLanguageModel,
    rows: Sequence[Row],
    images: Sequence[Tensor],
    tree: Sequence[tuple[int, ...]],
    tokens: Sequence[int],
) -> Tensor:
    """Log-probabilities of `tokens` after every lane and every continuation of it, in one forward pass.

    `images[i]` as `VisionLanguageModel.encode` takes them; every row has the same number of lanes; `tree` are
    continuations (token ids; () first, parents before children). Returns (B, lanes, tree, tokens) float32, normalised
    over the whole vocabulary.
    """
    leaves = [path[-1] for path in tree[1:]]
    grown = [Row(row.prefix, [[*lane, *leaves] for lane in row.lanes]) for row in rows]
    states, plan, _ = _run(model, grown, rows, images, tree, cache=None)
    at = plan.read.flatten(1)
    wanted = states.gather(1, at[..., None].expand(-1, -1, states.shape[-1]))
    index = torch.tensor(tokens, device=states.device)
    parts = []
    for row in wanted:  # a row at a time: the vocabulary is wide
        logits = model.vocabulary_logits(row).float()
        parts.append(logits[:, index] - logits.logsumexp(-1, keepdim=True))
    return torch.stack(parts).unflatten(1, (plan.read.shape[1], len(tree)))


def greedy(
    model: VisionLanguageModel, rows: Sequence[Row], images: Sequence[Tensor], steps: int, stop: int | None = None
) -> Tensor:
    """The `steps` likeliest next tokens of every lane, one after the other: (B, lanes, steps) int64.

    After the token `stop` a lane goes on with `stop`; all lanes stopped ends the work early.
    """
    cache = DynamicCache()  # without a configuration: it drops nothing that the mask speaks of
    states, plan, mask = _run(model, rows, rows, images, ((),), cache)
    last = plan.read[..., 0]
    chosen = _likeliest(model, states.gather(1, last[..., None].expand(-1, -1, states.shape[-1])))
    position = plan.position.gather(1, last)
    seen = mask[:, 0].gather(1, last[..., None].expand(-1, -1, mask.shape[-1]))  # what each lane's last token sees
    own = torch.eye(last.shape[1], dtype=torch.bool, device=states.device).expand(len(rows), -1, -1)
    answers = [chosen]
    while len(answers) < steps and not (stop is not None and bool((chosen == stop).all())):
        position, seen = position + 1, torch.cat([seen, own], dim=-1)
        words = model.body.get_input_embeddings()(chosen)
        out = model.body(
            inputs_embeds=words, attention_mask=_as_attention(model, seen[:, None]), position_ids=position,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        following = _likeliest(model, out.last_hidden_state)
        chosen = following if stop is None else torch.where(chosen == stop, stop, following)
        answers.append(chosen)
    while len(answers) < steps:
        answers.append(chosen)
    return torch.stack(answers, dim=-1)


def _likeliest(model: VisionLanguageModel, states: Tensor) -> Tensor:
    return torch.stack([model.vocabulary_logits(row).argmax(-1) for row in states])


def _run(
    model: VisionLanguageModel,
    grown: Sequence[Row],
    rows: Sequence[Row],
    images: Sequence[Tensor],
    tree: Sequence[tuple[int, ...]],
    cache: DynamicCache | None,
) -> tuple[Tensor, _Plan, Tensor]:
    """Hidden states (B, L, hidden) of all rows, the plan of `rows` with `tree`, and the mask that was used."""
    plan = _plan(rows, model.image_tokens, tree)
    device = model.body.get_input_embeddings().weight.device
    plan = _Plan(*(tensor.to(device) for tensor in (plan.lane, plan.position, plan.node, plan.read)))
    ids = [torch.tensor(row.ids, device=device) for row in grown]
    padded = nn.utils.rnn.pad_sequence(model.embed(ids, images), batch_first=True)
    mask = _mask(plan, tree)
    out = model.body(
        inputs_embeds=padded, attention_mask=_as_attention(model, mask), position_ids=plan.position,
        past_key_values=cache, use_cache=cache is not None,
    )  # fmt: skip
    return out.last_hidden_state, plan, mask


def _as_attention(model: VisionLanguageModel, seen: Tensor) -> Tensor:
    """SDPA takes truth values; eager attention adds its mask."""
    if model.body.config._attn_implementation == "sdpa":
        return seen
    dtype = model.body.dtype
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
