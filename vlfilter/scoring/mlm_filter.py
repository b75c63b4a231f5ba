"""MLM-Filter (arXiv 2403.02677): a multimodal language model grades image-text pairs from 0 to 100 on four metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import body_kind
from vlfilter.models.conversation import TEMPLATES, Template, model_name, original_template, trained_template
from vlfilter.models.conversation import template as find_template
from vlfilter.models.digests import model_digest
from vlfilter.models.folders import hub_file, local_folder, model_folder, read_json
from vlfilter.models.locate import VisionSource, VisionWeights, check_vlm_folder, vision_source
from vlfilter.models.preprocess import ImageSettings
from vlfilter.scoring.base import Prepared, ScorerSettings, one_pair
from vlfilter.scoring.mlm_filter_columns import expected_columns, greedy_columns, score_columns
from vlfilter.scoring.mlm_filter_options import WHERE_ONLY, read_mlm_filter_options
from vlfilter.scoring.mlm_filter_prepare import MlmFilterPreparer, Payload
from vlfilter.scoring.mlm_filter_prompts import METRICS, read_metrics
from vlfilter.scoring.mlm_filter_text import Asker, caption_room
from vlfilter.scoring.numbers import NumberTree, space_token

if TYPE_CHECKING:
    from vlfilter.models.checkpoints import LoadedVlm, OpenedVlm
    from vlfilter.models.vlm import VlmConfig
    from vlfilter.scoring.vllm_backend import VllmBackend
    from vlfilter.scoring.vllm_client import VllmClient

IMAGE_MODE, CONVERSATION = "mm_image_mode", "mm_conversation_template"
CODE_VERSION = 1  # raised by whoever changes a score
ANSWER_TOKENS = 3  # "100" of a tokenizer that writes digit by digit
DEFAULT_CONTEXT = 4096
_Columns = Callable[[], dict[str, Sequence[Any]]]


class MlmFilter:
    """Scores `ImageText` content. All metrics share one pass over the image and the caption.

    `compat="original"` reads as the published scripts do at batch size 1: at most two tokens ("100" becomes 10), the
    prompt cut at its end, control tokens in captions. An answer that is no number gives the row a reason, always.
    """

    name = "mlm_filter"
    columns = score_columns(METRICS)

    def __init__(self, settings: ScorerSettings):
        self.settings = settings
        self.options = options = read_mlm_filter_options(settings, self.name)
        self.metrics = read_metrics(options.metric)
        self.columns = score_columns(self.metrics)
        self.original = settings.compat == "original"
        self._base = local_folder(options.model_base) if options.model_base else None
        folder = local_folder(settings.model)
        if folder is not None:
            vision_source(folder, check_vlm_folder(folder, "lm", self._base), self._vision)
        self._loaded: LoadedVlm | None = None
        self._server: VllmBackend | None = None
        if options.backend == "vllm":
            self._client()

    @property
    def answer(self) -> str:
        """`expected` or `greedy`."""
        return self.options.answer if self.options.answer != "auto" else "greedy" if self.original else "expected"

    @property
    def _vision(self) -> VisionWeights:
        # the published scripts never read the embedded copy
        chosen: Any = "hub" if self.original and self.options.vision == "auto" else self.options.vision
        weights: VisionWeights = chosen
        return weights

    def fingerprint(self) -> dict[str, Any]:
        """`dtype` is as asked: `auto` is not resolved, so that a laptop and a GPU worker give the same answer."""
        folder = local_folder(self.settings.model)
        if folder is not None:
            vision = vision_source(folder, check_vlm_folder(folder, "lm", self._base), self._vision).digest()
        elif self._vision == "hub":
            tower = read_json(hub_file(self.settings.model, "config.json")).get("mm_vision_tower")
            vision = VisionSource(hub_name=str(tower)).digest()
        else:
            vision = self._vision
        return {
            "scorer": self.name,
            "code": CODE_VERSION,
            "model": model_digest(self.settings.model),
            "base": model_digest(self.options.model_base) if self.options.model_base else "",
            "vision": vision,
            "dtype": self.settings.dtype,
            "compat": self.settings.compat,
            "options": {name: value for name, value in asdict(self.options).items() if name not in WHERE_ONLY},
        }

    def load(self) -> None:
        from vlfilter.models.startup import import_transformers

        import_transformers()
        if self.options.backend == "vllm":
            self._connect()
            return
        from vlfilter.models.checkpoints import load_vlm
        from vlfilter.models.device import resolve_device, resolve_dtype

        device = resolve_device(self.settings.device)
        quantize: Any = self.options.quantize
        loaded = load_vlm(
            str(model_folder(self.settings.model)),
            head="lm",
            base=self.options.model_base or None,
            device=device,
            dtype=resolve_dtype(self.settings.dtype, device),
            vision=self._vision,
            quantize=quantize,
        )
        loaded = replace(loaded, images=self._image_settings(loaded))
        self._tree = NumberTree.of(loaded.tokenizer)
        self._asker = self._make_asker(loaded, loaded.model.image_tokens)
        self._loaded = loaded

    def _client(self) -> VllmClient:
        from vlfilter.scoring.vllm_client import VllmClient

        return VllmClient(self.options.base_url, self.options.in_flight)

    @property
    def _served(self) -> list[str]:
        own = self.settings.model.rstrip("/")
        return [self.options.served_model] if self.options.served_model else [own, own.rsplit("/", 1)[-1]]

    def check_server(self) -> None:
        """Raises `VlfilterError` when the server that the options name does not answer or serves another model."""
        if self.options.backend == "vllm":
            self._client().served(self._served)

    def _connect(self) -> None:
        from vlfilter.models.checkpoints import open_vlm
        from vlfilter.scoring.vllm_backend import VllmBackend

        folder = str(model_folder(self.settings.model))
        opened = open_vlm(folder, head="lm", base=self.options.model_base or None, vision=self._vision)
        images = self._image_settings(opened)
        asker = self._make_asker(opened, opened.image_tokens)
        self._server = VllmBackend(self._client(), asker, images, self._served)

    def _image_settings(self, model: LoadedVlm | OpenedVlm) -> ImageSettings:
        mode = self.options.image_mode
        if mode == "auto":
            mode = "processor" if self.original else str(model.config.published.get(IMAGE_MODE, "processor"))
        return model.images if mode == "processor" else replace(model.images, resize=mode)

    def _make_asker(self, loaded: LoadedVlm | OpenedVlm, image_tokens: int) -> Asker:
        body = loaded.config.body
        template, version = self._words(loaded.config)
        ours = CONVERSATION in loaded.config.published and not self.original
        published = self.options.space == "published" or (self.options.space == "auto" and not ours)
        spaced = published or template.answer_gap == " "
        context = loaded.config.max_length or int(getattr(body, "max_position_embeddings", DEFAULT_CONTEXT))
        asker = Asker(
            tokenizer=loaded.tokenizer,
            template=template,
            version=version,
            metrics=self.metrics,
            bos=loaded.tokenizer.automatic_bos,
            space=space_token(loaded.tokenizer) if spaced else None,
            caption_tokens=self.options.caption_max_tokens,
            image_tokens=image_tokens,
            # within a sliding window (Phi 3, Gemma 2) it is as if there were none, and the lanes' mask knows none
            context=min(context, getattr(body, "sliding_window", None) or context),
            original=self.original,
        )
        if self.original:
            return asker
        return replace(asker, caption_tokens=min(asker.caption_tokens, caption_room(asker, self.settings.model)))

    def _words(self, config: VlmConfig) -> tuple[Template, int]:
        body = body_kind(config.published, self.settings.model)
        trained = trained_template(body, int(config.body.vocab_size))
        version = int(self.options.prompt) if self.options.prompt != "auto" else 1 if trained.name == "vicuna_v1" else 2
        if self.options.template == "auto" and CONVERSATION in config.published:
            return find_template(str(config.published[CONVERSATION])), version
        if self.options.template == "auto":
            return trained, version
        if self.options.template == "original-auto":
            return original_template(self.settings.model, version), version
        return TEMPLATES[self.options.template], version

    @property
    def loaded(self) -> LoadedVlm:
        if self._loaded is None:
            raise VlfilterError("the mlm_filter scorer is not loaded: call load() first.")
        return self._loaded

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        if self._server is None:
            return self._preparer().prepare(content)
        return self._server.prepare(one_pair(content, self.name))

    def preparer(self) -> MlmFilterPreparer | None:
        """None when the model runs in a server: this process has time then."""
        return None if self._server is not None else self._preparer()

    def _preparer(self) -> MlmFilterPreparer:
        images = self.loaded.images
        return MlmFilterPreparer(self.name, self._asker, images, len(self._tree.nodes))

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Prepared]) -> _Columns:
        if self._server is not None:
            answered = self._server.score([prepared.payload for prepared in batch], self.answer)
            return lambda: answered
        import torch

        from vlfilter.models.lanes import Row
        from vlfilter.models.preprocess import normalised_chunks

        loaded = self.loaded
        device = str(next(loaded.model.projector.parameters()).device)
        payloads: list[Payload] = [prepared.payload for prepared in batch]
        rows = [Row(payload.questions.prefix, payload.questions.lanes) for payload in payloads]
        with torch.inference_mode():
            chunks = normalised_chunks([payload.pixels for payload in payloads], loaded.images, device)
            images = torch.cat([loaded.model.encode_images(chunk) for chunk in chunks]).split(1)
            columns = self._expected(rows, images) if self.answer == "expected" else self._greedy(rows, images)
        return lambda: columns() | {"truncated": [payload.questions.truncated for payload in payloads]}

    def _expected(self, rows: Sequence[Any], images: Sequence[Any]) -> _Columns:
        from vlfilter.models.device import download
        from vlfilter.models.lanes import tree_log_probabilities

        found = tree_log_probabilities(self.loaded.model, rows, images, self._tree.nodes, self._tree.alphabet)
        logs = download(found)
        return lambda: expected_columns(self.metrics, self._tree.distribution(logs().numpy()))

    def _greedy(self, rows: Sequence[Any], images: Sequence[Any]) -> _Columns:
        from vlfilter.models.lanes import greedy

        tokenizer = self.loaded.tokenizer
        chosen = greedy(self.loaded.model, rows, images, self._answer_tokens, stop=tokenizer.eos).cpu()
        texts = [[tokenizer.hf.decode(lane, skip_special_tokens=True) for lane in row] for row in chosen]
        return lambda: greedy_columns(self.metrics, texts, self.original)

    def write(self, prepared: Prepared, max_tokens: int = 512) -> list[str]:
        """What the model writes about one sample, a text a metric: its number, then (as it was trained) its reasons.

        Raises `VlfilterError` when the model runs in a server.
        """
        if self._server is not None:
            raise VlfilterError(f"{self.name}: explanations need backend transformers.")
        import torch

        from vlfilter.models.lanes import Row, greedy
        from vlfilter.models.preprocess import normalised_chunks

        loaded, payload = self.loaded, prepared.payload
        device = str(next(loaded.model.projector.parameters()).device)
        images = list(normalised_chunks([payload.pixels], loaded.images, device))
        eos, row = loaded.tokenizer.eos, Row(payload.questions.prefix, payload.questions.lanes)
        with torch.inference_mode():
            written = greedy(loaded.model, [row], images, max_tokens, stop=eos)[0].tolist()
        kept = [lane[: lane.index(eos)] if eos in lane else lane for lane in written]
        texts = [loaded.tokenizer.hf.decode(lane, skip_special_tokens=True) for lane in kept]
        end = self._asker.template.assistant_end.strip()
        return [text.split(end)[0] if end else text for text in texts]

    @property
    def _answer_tokens(self) -> int:
        if not self.original:
            return ANSWER_TOKENS
        v2 = self._asker.version == 2
        return 1 if v2 and "llama-3" in model_name(self.settings.model).lower() else 2
