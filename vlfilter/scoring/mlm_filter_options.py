"""What mlm_filter can be told beyond its model."""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import TEMPLATES
from vlfilter.models.quantize import check_quantize
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.options import COMPAT, DTYPES, choose, read_options

WHERE_ONLY = ("base_url", "served_model", "in_flight")  # options that change no score


@dataclass(frozen=True, slots=True)
class MlmFilterOptions:
    """`metric` is `all`, one name, or several joined by commas.

    `answer` is `expected` (the expectation over 0 to 100 from the model's own probabilities), `greedy` (the number it
    would write), or `auto`: greedy with compat, else expected. `template` and `prompt` (version `1` or `2` of the
    question) follow the checkpoint when `auto`; template `original-auto` follows its name, as the published scripts
    do. `image_mode` is `processor` (the tower's own, as the published scoring), `pad` (as the published training), or
    `squash`; `space` is `published` (a blank before the answer) or `trained` (none where the training had none:
    Qwen's). Both are `auto`: as the checkpoint says that it was trained (`mm_image_mode` and
    `mm_conversation_template` in config.json, our additions), else as published. `model_base` names the language model
    of a projector-only checkpoint, `quantize` is `8bit` or `4bit` (needs bitsandbytes).

    `backend` is `transformers` (in this process) or `vllm`: the running server at `base_url`, which serves the same
    checkpoint under its path, its folder's name, or `served_model`; at most `in_flight` requests wait there at a time.
    """

    metric: str = "all"
    answer: str = "auto"
    template: str = "auto"
    prompt: str = "auto"
    image_mode: str = "auto"
    space: str = "auto"
    caption_max_tokens: int = 1024
    model_base: str = ""
    quantize: str = "none"
    vision: str = "auto"
    backend: str = "transformers"
    base_url: str = ""
    served_model: str = ""
    in_flight: int = 64


def read_mlm_filter_options(settings: ScorerSettings, scorer: str) -> MlmFilterOptions:
    """Raises `VlfilterError` for an unknown option or value, and for options that exclude each other."""
    options = read_options(MlmFilterOptions, settings.options, scorer)
    choose(scorer, "option answer", options.answer, ("auto", "expected", "greedy"))
    choose(scorer, "option template", options.template, ("auto", "original-auto", *TEMPLATES))
    choose(scorer, "option prompt", options.prompt, ("auto", "1", "2"))
    choose(scorer, "option image_mode", options.image_mode, ("auto", "processor", "pad", "squash"))
    choose(scorer, "option space", options.space, ("auto", "published", "trained"))
    choose(scorer, "option quantize", options.quantize, ("none", "8bit", "4bit"))
    choose(scorer, "option vision", options.vision, ("auto", "embedded", "hub"))
    choose(scorer, "option backend", options.backend, ("transformers", "vllm"))
    choose(scorer, "compat", settings.compat, COMPAT)
    choose(scorer, "dtype", settings.dtype, DTYPES)
    if options.quantize != "none":
        check_quantize()
    served = options.backend == "vllm"
    if not served and (options.base_url or options.served_model):
        raise VlfilterError(f"{scorer}: a server's address or model name is for backend vllm: choose that too.")
    if served and (settings.compat == "original" or options.quantize != "none"):
        raise VlfilterError(f"{scorer}: compat and the option quantize are for backend transformers.")
    return options
