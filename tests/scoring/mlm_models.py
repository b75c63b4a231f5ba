"""Small checkpoints for MLM-Filter: three ways of writing numbers, and a model that answers what a test says."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.models import small
from vlfilter.data.samples import ImageText
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.preprocess import default_settings
from vlfilter.models.tokenizer import TextTokenizer, load_tokenizer, wrap_tokenizer
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mlm_filter"
TEXTS = [instruction(metric, "a photo of a cat on a red chair", 2) for metric in METRICS] * 4


def make(model: Path | str = FIXTURE, compat: str | None = None, **options: Any) -> MlmFilter:
    scorer = MlmFilter(ScorerSettings(str(model), device="cpu", compat=compat, options=options))
    scorer.load()
    return scorer


@cache
def pairs() -> list[ImageText]:
    """The five samples of the fixture."""
    with tarfile.open(FIXTURE / "00000000.tar") as tar:
        data = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    keys = sorted({name.split(".")[0] for name in data})
    return [ImageText(Image.open(io.BytesIO(data[f"{k}.png"])).convert("RGB"), data[f"{k}.txt"].decode()) for k in keys]


def one(scorer: MlmFilter, pair: ImageText) -> dict[str, Any]:
    return {name: values[0] for name, values in scorer.score([scorer.prepare(pair)]).items()}


def qwen_tokenizer() -> TextTokenizer:
    """Digit by digit, a blank of its own, no bos."""
    return load_tokenizer(FIXTURE, needs_bos=False)


@cache
def llama_3_tokenizer() -> TextTokenizer:
    """Up to three digits in one token, as Llama 3 writes numbers."""
    tokenizer = Tokenizer(models.BPE())
    numbers = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([numbers, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([*TEXTS, *[str(n) for n in range(101)] * 500], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    hf = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1])
    return wrap_tokenizer(hf, "a Llama 3 tokenizer")


@cache
def llama_2_tokenizer() -> TextTokenizer:
    """SentencePiece's way: `▁` before words and at the start of a text, digit by digit, `<s>` in front."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=specials, initial_alphabet=[*"0123456789▁"], show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, "A chat between a curious user and an assistant. USER: ASSISTANT:"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )
    return wrap_tokenizer(hf, "a Llama 2 tokenizer")


def language_model(body: str = "llama", vocabulary: int = 320, *, tied: bool = False, **fields: Any) -> Any:
    """A small model with a language head, random weights that react to every input."""
    config = small.config(body, "clip", "mlp2x_gelu", select_layer=-2)
    for name, value in {"vocab_size": vocabulary, "tie_word_embeddings": tied, **fields}.items():
        setattr(config.body, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionLanguageModel(replace(config, head="lm", max_length=4096))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
    return model.eval()


def save(folder: Path, tokenizer: TextTokenizer, body: str = "llama", **fields: Any) -> Path:
    """A checkpoint of `language_model` in the published layout."""
    model = language_model(body, len(tokenizer.hf), **fields)
    return save_vlm(folder, model, tokenizer, default_settings("clip_vision_model", small.PIXELS))


def answering(folder: Path, chain: Mapping[str, str], source: Path = FIXTURE) -> Path:
    """A copy of a checkpoint without tied weights whose next token follows from the last one only: `chain` of tokens.

    Attention and MLP add nothing, every token of the chain has its own direction, the head reads it.
    """
    shutil.copytree(source, folder)
    vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    state = load_file(folder / "model.safetensors")
    for name in state:
        if name.endswith(("self_attn.o_proj.weight", "mlp.down_proj.weight")):
            state[name].zero_()
    embeddings, head = state["model.embed_tokens.weight"], state["lm_head.weight"]
    embeddings.zero_()[:, -1] = 1
    head.zero_()
    for direction, (token, following) in enumerate(chain.items()):
        embeddings[vocabulary[token]] = torch.nn.functional.one_hot(
            torch.tensor(direction), embeddings.shape[1]
        ).float()
        head[vocabulary[following], direction] = 10
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
