"""Several questions about one image and caption in one forward pass.

A row is a common prefix followed by lanes (the questions). A lane sees the prefix and itself, never another lane, and
its positions go on from the prefix: each lane's states are those of the prefix and this lane run alone. A body with a
sliding window gives the same as long as prefix, lane and answer fit into its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from vlfilter.models.device import upload
from vlfilter.models.lane_attention import Lane, Step, lane_attention
from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel

Tree = Sequence[tuple[int, ...]]
NO_TREE: Tree = ((),)


@dataclass(frozen=True, slots=True)
class Row:
    """`prefix` with `IMAGE_TOKEN` where the image stands; `lanes` without any, none of them empty."""

    prefix: Sequence[int]
    lanes: Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Batch:
    """Where everything of a batch lies. Tokens of a row: prefix (images expanded), then lane after lane, each followed
    by the tree's tokens; padding at the end."""

    rows: Sequence[Row]
    tree: Tree
    image_tokens: int

    @cached_property
    def prefixes(self) -> list[int]:
        """Each row's prefix length."""
        return [
            len(row.prefix) + (self.image_tokens - 1) * sum(token == IMAGE_TOKEN for token in row.prefix)
            for row in self.rows
        ]

    @cached_property
    def starts(self) -> list[list[int]]:
        """Where each lane of each row begins; the last entry is the row's end."""
        found = []
        for row, prefix in zip(self.rows, self.prefixes, strict=True):
            starts = [prefix]
            for lane in row.lanes:
                starts.append(starts[-1] + len(lane) + len(self.tree) - 1)
            found.append(starts)
        return found

    @property
    def length(self) -> int:
        return max(starts[-1] for starts in self.starts)

    @property
    def ids(self) -> list[list[int]]:
        leaves = [path[-1] for path in self.tree[1:]]
        return [[*row.prefix, *(token for lane in row.lanes for token in (*lane, *leaves))] for row in self.rows]

    @property
    def positions(self) -> Tensor:
        """(B, L)"""
        depths = [len(path) for path in self.tree[1:]]
        found = []
        for row, prefix in zip(self.rows, self.prefixes, strict=True):
            places = list(range(prefix))
            for lane in row.lanes:
                end = prefix + len(lane)
                places += [*range(prefix, end), *(end - 1 + depth for depth in depths)]
            found.append(places + [0] * (self.length - len(places)))
        return torch.tensor(found)

    @property
    def ends(self) -> Tensor:
        """(B, lanes) columns of the lanes' last tokens."""
        return torch.tensor([
            [start + len(lane) - 1 for start, lane in zip(starts, row.lanes, strict=False)]
            for row, starts in zip(self.rows, self.starts, strict=True)
        ])  # fmt: skip

    @property
    def reads(self) -> Tensor:
        """(B, lanes, tree) columns after which the next token is wanted."""
        return self.ends[..., None] + torch.arange(len(self.tree))

    def lanes(self, device: torch.device) -> tuple[Lane, ...]:
        return tuple(self._lane(i, device) for i in range(len(self.rows[0].lanes)))

    def _lane(self, number: int, device: torch.device) -> Lane:
        sizes = [len(row.lanes[number]) for row in self.rows]
        longest = max(prefix + size for prefix, size in zip(self.prefixes, sizes, strict=True))
        junk = len(self.rows) * self.length
        takes, puts = [], []
        for i, (prefix, size) in enumerate(zip(self.prefixes, sizes, strict=True)):
            base, start = i * self.length, self.starts[i][number]
            pad = longest - prefix - size
            own = [base + start + k for k in range(size)]
            shared = [base + k for k in range(prefix)]
            takes.append(shared + own + [base] * pad)
            # every lane computes the prefix's outputs on its way; the first one's are kept
            puts.append((shared if number == 0 else [junk] * prefix) + own + [junk] * pad)
        take, put = upload(torch.tensor(takes), device), upload(torch.tensor(puts), device)
        count = len(self.tree) - 1
        if not count:
            return Lane(take, put)
        rows = torch.arange(len(self.rows)) * self.length
        first = upload(rows + torch.tensor(self.starts)[:, number] + torch.tensor(sizes), device)
        ends = upload(torch.tensor([*map(sum, zip(self.prefixes, sizes, strict=True))]), device)
        before = (torch.arange(longest, device=device) < ends[:, None])[:, None, None].expand(-1, 1, count, -1)
        line = upload(torch.tensor([[a == b[: len(a)] for a in self.tree[1:]] for b in self.tree[1:]]), device)
        seen = torch.cat([before, line.expand(len(sizes), 1, count, count)], dim=-1)
        return Lane(take, put, first[:, None] + torch.arange(count, device=device), seen)


def tree_log_probabilities(
    model: VisionLanguageModel, rows: Sequence[Row], images: Sequence[Tensor], tree: Tree, tokens: Sequence[int]
) -> Tensor:
    """Log-probabilities of `tokens` after every lane and every continuation of it, in one forward pass.

    `images[i]` as `VisionLanguageModel.encode` takes them; every row has the same number of lanes; `tree` are
    continuations (token ids; () first, parents before children). Returns (B, lanes, tree, tokens) float32, normalised
    over the whole vocabulary.
    """
    batch = _Batch(rows, tree, model.image_tokens)
    states = _run(model, batch, images, None)
    index = upload(torch.tensor(tokens), states.device)
    parts = []
    for wanted in _at(states, batch.reads.flatten(1)):  # a row at a time: the vocabulary is wide
        logits = model.vocabulary_logits(wanted).float()
        parts.append(logits[:, index] - logits.logsumexp(-1, keepdim=True))
    return torch.stack(parts).unflatten(1, (-1, len(tree)))


def lane_log_probabilities(
    model: VisionLanguageModel, rows: Sequence[Row], images: Sequence[Tensor]
) -> list[list[Tensor]]:
    """Log-probability of every token of every lane, after the prefix and the lane's tokens before it, in one pass.

    `images` as `tree_log_probabilities` takes them; every row has the same number of lanes. Returns for each row and
    lane a float32 tensor (tokens of the lane,), normalised over the whole vocabulary.
    """
    batch = _Batch(rows, NO_TREE, model.image_tokens)
    states = _run(model, batch, images, None)
    found = []
    for i, (row, prefix, starts) in enumerate(zip(rows, batch.prefixes, batch.starts, strict=True)):
        columns = [
            column
            for lane, start in zip(row.lanes, starts, strict=False)
            for column in (prefix - 1, *range(start, start + len(lane) - 1))
        ]
        logits = model.vocabulary_logits(states[i, columns]).float()  # a row at a time: the vocabulary is wide
        tokens = torch.tensor([token for lane in row.lanes for token in lane], device=logits.device)
        logs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        found.append(list(logs.split([len(lane) for lane in row.lanes])))
    return found


def greedy(
    model: VisionLanguageModel, rows: Sequence[Row], images: Sequence[Tensor], steps: int, stop: int | None = None
) -> Tensor:
    """The `steps` likeliest next tokens of every lane, one after the other: (B, lanes, steps) int64.

    After the token `stop` a lane goes on with `stop`; all lanes stopped ends the work early.
    """
    batch = _Batch(rows, NO_TREE, model.image_tokens)
    cache = DynamicCache()  # without a configuration: it drops nothing that `seen` speaks of
    states = _run(model, batch, images, cache)
    device = states.device
    chosen = _likeliest(model, _at(states, batch.ends))
    position = batch.positions.gather(1, batch.ends).to(device)
    seen = _seen_by_ends(batch).to(device)
    own = torch.eye(seen.shape[1], dtype=torch.bool, device=device).expand(len(rows), -1, -1)
    answers = [chosen]
    while len(answers) < steps and not (stop is not None and bool((chosen == stop).all())):
        position, seen = position + 1, torch.cat([seen, own], dim=-1)
        with lane_attention(model.body):
            out = model.body(
                inputs_embeds=model.body.get_input_embeddings()(chosen), position_ids=position,
                past_key_values=cache, use_cache=True, lanes=Step(seen[:, None]),
            )  # fmt: skip
        following = _likeliest(model, out.last_hidden_state)
        chosen = following if stop is None else torch.where(chosen == stop, stop, following)
        answers.append(chosen)
    return torch.stack(answers + [chosen] * (steps - len(answers)), dim=-1)


def _run(model: VisionLanguageModel, batch: _Batch, images: Sequence[Tensor], cache: DynamicCache | None) -> Tensor:
    """Hidden states (B, L, hidden)."""
    device = model.body.get_input_embeddings().weight.device
    ids = [torch.tensor(row) for row in batch.ids]
    padded = nn.utils.rnn.pad_sequence(model.embed(ids, images), batch_first=True)
    with lane_attention(model.body):
        out = model.body(
            inputs_embeds=padded, position_ids=upload(batch.positions, device), past_key_values=cache,
            use_cache=cache is not None, lanes=batch.lanes(device),
        )  # fmt: skip
    states: Tensor = out.last_hidden_state
    return states


def _at(states: Tensor, columns: Tensor) -> Tensor:
    return states.gather(1, upload(columns, states.device)[..., None].expand(-1, -1, states.shape[-1]))


def _likeliest(model: VisionLanguageModel, states: Tensor) -> Tensor:
    return torch.stack([model.vocabulary_logits(row).argmax(-1) for row in states])


def _seen_by_ends(batch: _Batch) -> Tensor:
    """(B, lanes, L): what each lane's last token sees."""
    column = torch.arange(batch.length)
    starts = torch.tensor([row[:-1] for row in batch.starts])[..., None]
    prefix = torch.tensor(batch.prefixes)[:, None, None]
    return (column < prefix) | ((column >= starts) & (column <= batch.ends[..., None]))
