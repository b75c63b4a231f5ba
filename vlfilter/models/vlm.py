"""The one vision-language model: vision tower + projector + language model body + head (Liu et al. 2023, LLaVA)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from vlfilter.models.bodies import Head, attention
from vlfilter.models.device import upload
from vlfilter.models.projectors import ProjectorConfig, build_projector, image_tokens, projector_dtype
from vlfilter.models.vision import VisionConfig, VisionTower

IMAGE_TOKEN = -200  # the placeholder in `input_ids` that an image's vectors replace; the published code's value
IMAGE_CHUNK = 64  # images through the tower at a time, which bounds its activations however large the batch is


@dataclass(frozen=True)
class VlmConfig:
    """What the model is made of. `body` and `vision` are transformers configurations.

    `head` is a classifier's score head (`num_labels` outputs), or the language model's own over its vocabulary.
    `max_length` is the published `tokenizer_model_max_length`, `published` the checkpoint's config.json as it was read
    (fields that we do not use are written back unchanged).
    """

    body: Any
    vision: VisionConfig
    projector: ProjectorConfig
    select_layer: int = -1
    select_feature: str = "patch"
    num_labels: int = 1
    head: Head = "score"
    max_length: int | None = None
    published: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hidden:
    """The body's last hidden states after its final norm, (B, L, hidden), and each row's real length, (B,)."""

    states: Tensor
    lengths: Tensor


class VisionLanguageModel(nn.Module):
    """A language model over text with images (MLM-Filter, arXiv 2403.02677), or with the score head of a classifier or
    regressor read out at the last token (UniFilter, arXiv 2510.15162).

    Samples carry their own images, so no sample ever sees a neighbour's. The tower is frozen and always in eval mode.
    """

    def __init__(self, config: VlmConfig, attn_implementation: str | None = None):
        super().__init__()
        self.config = config
        self.image_chunk = IMAGE_CHUNK
        self.vision = VisionTower(config.vision, config.select_layer, config.select_feature).requires_grad_(False)
        hidden = int(config.body.hidden_size)
        self.projector = build_projector(config.projector, self.vision.width, hidden)
        chosen = attn_implementation or attention(config.body.model_type, "cpu")
        self.body = AutoModel.from_config(config.body, attn_implementation=chosen, dtype=torch.float32)
        if config.head == "score":
            self.score = nn.Linear(hidden, config.num_labels, bias=False)
            nn.init.normal_(self.score.weight, std=0.02)
        elif not self.tied:
            self.lm_head = nn.Linear(hidden, int(config.body.vocab_size), bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02)
        self.vision.eval()

    @property
    def tied(self) -> bool:
        """Whether the vocabulary's head is the table of embeddings, which then is stored once."""
        return bool(getattr(self.config.body, "tie_word_embeddings", False))

    @property
    def image_tokens(self) -> int:
        """Positions that one image takes in the sequence."""
        return image_tokens(self.config.projector, self.vision.patches)

    def train(self, mode: bool = True) -> VisionLanguageModel:
        super().train(mode)
        self.vision.eval()
        return self

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W) → vectors in the body's embedding space (N, image tokens, hidden)."""
        tower_dtype = self.vision.model.dtype
        features = [self.vision(chunk.to(tower_dtype)) for chunk in pixels.split(self.image_chunk)]
        joined = torch.cat(features) if len(features) > 1 else features[0]
        vectors: Tensor = self.projector(joined.to(projector_dtype(self.projector, tower_dtype)))
        return vectors

    def _vectors_of(self, images: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Each sample's image vectors; all pixels of the batch go through the tower together."""
        pixels = [tensor for tensor in images if tensor is not None and tensor.ndim == 4 and len(tensor)]
        encoded = iter(self.encode_images(torch.cat(pixels)).split([len(p) for p in pixels]) if pixels else ())
        return [
            None if tensor is None or not len(tensor) else next(encoded) if tensor.ndim == 4 else tensor
            for tensor in images
        ]

    def embed(self, input_ids: Sequence[Tensor], images: Sequence[Tensor | None]) -> list[Tensor]:
        """One (length, hidden) sequence a sample, with every placeholder replaced by its image's vectors.

        Ids that lie on the CPU spare a GPU many small stops. Raises `ValueError` naming the sample whose placeholders
        and images differ in number.
        """
        if len(input_ids) != len(images):
            raise ValueError(f"{len(input_ids)} texts but {len(images)} lists of images")
        cuts = [(ids == IMAGE_TOKEN).nonzero().flatten().tolist() for ids in input_ids]
        for index, (places, tensor) in enumerate(zip(cuts, images, strict=True)):
            given = 0 if tensor is None else len(tensor)
            if len(places) != given:
                raise ValueError(f"sample {index} has {len(places)} image placeholders but {given} images")
        table = self.body.get_input_embeddings()
        flat = torch.cat(list(input_ids))
        device = flat.device if flat.is_cuda else table.weight.device  # offloaded weights lie elsewhere than they work
        # Gemma 2 scales what it embeds: the published code image vectors too, transformers 5 words only.
        scale = getattr(table, "embed_scale", None)
        sequences = []
        all_vectors = self._vectors_of(images)
        blank = None
        if self.training and all(vectors is None for vectors in all_vectors):
            # Every process of a sharded or replicated training must run every trained module, images or none, and in
            # the same order: processes exchange weights and gradients as the modules run.
            size = int(self.config.vision.image_size)
            blank = self.encode_images(torch.zeros(1, 3, size, size, device=device)).sum()
        embedded = table(upload(flat.masked_fill(flat == IMAGE_TOKEN, 0), device))
        for words, places, vectors in zip(embedded.split([*map(len, input_ids)]), cuts, all_vectors, strict=True):
            if vectors is None:
                sequences.append(words)
                continue
            vectors = vectors.to(words.dtype)
            vectors = vectors if scale is None else vectors * scale.to(words.dtype)
            pieces, start = [], 0
            for cut, image in zip(places, vectors, strict=True):
                pieces += [words[start:cut], image]
                start = cut + 1
            sequences.append(torch.cat([*pieces, words[start:]]))
        if blank is not None:
            sequences[0] = sequences[0] + 0 * blank.to(sequences[0].dtype)
        return sequences

    def encode(
        self, input_ids: Sequence[Tensor], images: Sequence[Tensor | None], max_length: int | None = None
    ) -> Hidden:
        """Run the body over a batch of samples of any lengths.

        `input_ids[i]` (L_i,) int64 with `IMAGE_TOKEN` where an image stands; `images[i]` is None, normalised pixels
        (n_i, 3, H, W), or vectors already projected (n_i, image tokens, hidden). `max_length` cuts each expanded
        sequence at its end, as the published code does.
        """
        sequences = [sequence[:max_length] for sequence in self.embed(input_ids, images)]
        padded = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        counts = torch.tensor([len(sequence) for sequence in sequences])
        lengths = upload(counts, padded.device)
        mask = None
        if self.body.config._attn_implementation == "flash_attention_2" and int(counts.min()) < padded.shape[1]:
            # Padding is to the right and attention causal, so no real position ever sees any: a mask changes nothing
            # and costs SDPA its fast kernel. FlashAttention alone uses it, to skip the padding.
            mask = (torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]).long()
        out = self.body(inputs_embeds=padded, attention_mask=mask, use_cache=False)
        return Hidden(out.last_hidden_state, lengths)

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """Logits (…, vocabulary) of the next token, from hidden states (…, hidden)."""
        weight = self.body.get_input_embeddings().weight if self.tied else self.lm_head.weight
        logits = nn.functional.linear(states.to(weight.dtype), weight)
        cap = getattr(self.config.body, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def forward(
        self, input_ids: Sequence[Tensor], images: Sequence[Tensor | None], max_length: int | None = None
    ) -> Tensor:
        """Logits in the head's dtype, read at each sample's last position; arguments as `encode`'s.

        (B, num_labels) of a score head, (B, vocabulary) of a language model: those of its next token.
        """
        hidden = self.encode(input_ids, images, max_length)
        rows = torch.arange(len(hidden.lengths), device=hidden.lengths.device)
        last = hidden.states[rows, hidden.lengths - 1]
        if self.config.head == "lm":
            return self.vocabulary_logits(last)
        logits: Tensor = self.score(last.to(self.score.weight.dtype))
        return logits


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error for one label (regression), cross entropy for several; in float32.

    `logits` (B, num_labels); `labels` (B,), real numbers or class indices.
    """
    if logits.shape[1] == 1:
        return nn.functional.mse_loss(logits[:, 0].float(), labels.float())
    return nn.functional.cross_entropy(logits.float(), labels.long())
