"""The forward pass of a scorer's model and nothing else, on batches that lie ready on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vlfilter.models.preprocess import normalised_chunks
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.batching import cut_batches
from vlfilter.scoring.runner import BatchRunner

Forward = Callable[[], torch.Tensor]
ATTENTION = (
    torch.ops.aten._scaled_dot_product_flash_attention,
    torch.ops.aten._scaled_dot_product_efficient_attention,
    torch.ops.aten._scaled_dot_product_cudnn_attention,
)


def attention_flops(query: Sequence[int], key: Sequence[int], *_: Any, **__: Any) -> int:
    """As torch counts, which however refuses several query heads to one of the keys (Qwen 2.5, on a GPU)."""
    batch, heads, length, width = query
    return 4 * batch * heads * length * key[-2] * width


class Bare:
    """All batches as the engine would cut them: pixels normalised, ids as tensors where the model takes tensors."""

    def __init__(self, runner: BatchRunner, prepared: Sequence[Prepared]):
        scorer: Any = runner.scorer
        self.scorer, self.loaded = scorer, scorer.loaded
        places = cut_batches([one.tokens for one in prepared], runner.batch_tokens)
        ready = {"unifilter": self._unifilter, "mlm_filter": self._mlm_filter, "clip_score": self._clip_score}
        self.forwards = [ready[self.scorer.name]([prepared[i].payload for i in batch]) for batch in places]
        self.samples = len(prepared)

    @property
    def device(self) -> torch.device:
        if self.scorer.name == "clip_score":
            return torch.device(self.loaded.device)
        return torch.device(next(self.loaded.model.projector.parameters()).device)

    def all(self) -> None:
        with torch.inference_mode():
            for forward in self.forwards:
                forward().cpu()

    def flops(self) -> int:
        """Of all samples, multiplications and additions, as torch counts matrix products and attention."""
        with FlopCounterMode(display=False, custom_mapping=dict.fromkeys(ATTENTION, attention_flops)) as counter:
            self.all()
        return int(counter.get_total_flops())

    def _chunks(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
        return list(normalised_chunks(pixels, self.loaded.images, str(self.device)))

    def _unifilter(self, payloads: Sequence[Any]) -> Forward:
        chunks = self._chunks([image for payload in payloads for image in payload.pixels])
        ids = [torch.from_numpy(payload.ids) for payload in payloads]
        counts = [len(payload.pixels) for payload in payloads]

        def forward() -> torch.Tensor:
            images = torch.cat([self.loaded.model.encode_images(chunk) for chunk in chunks]).split(counts)
            logits: torch.Tensor = self.loaded.model(ids, images)
            return logits

        return forward

    def _mlm_filter(self, payloads: Sequence[Any]) -> Forward:
        from vlfilter.models.lanes import Row, tree_log_probabilities

        chunks = self._chunks([payload.pixels for payload in payloads])
        rows = [Row(payload.questions.prefix, payload.questions.lanes) for payload in payloads]
        tree = self.scorer._tree

        def forward() -> torch.Tensor:
            images = torch.cat([self.loaded.model.encode_images(chunk) for chunk in chunks]).split(1)
            return tree_log_probabilities(self.loaded.model, rows, images, tree.nodes, tree.alphabet)

        return forward

    def _clip_score(self, payloads: Sequence[Any]) -> Forward:
        from vlfilter.models.clip import cosine, pad_ids

        chunks = self._chunks([payload.pixels for payload in payloads])
        ids = pad_ids([payload.ids for payload in payloads], self.loaded.tokens.pad).to(self.device)

        def forward() -> torch.Tensor:
            images = torch.cat([self.loaded.encode_images(chunk) for chunk in chunks])
            return cosine(images, self.loaded.encode_texts(ids))

        return forward
