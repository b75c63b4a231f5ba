"""A small LLaVA-1.5: a language model over CLIP's patches, and a tokenizer that writes digits one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.models import small
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.conversation import TEMPLATES
from vlfilter.models.preprocess import default_settings
from vlfilter.models.tokenizer import TextTokenizer, wrap_tokenizer
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction

TEXTS = [instruction(metric, "a red bus in London", version) for metric in METRICS for version in (1, 2)]
TEXTS += [TEMPLATES["vicuna_v1"].prompt("")]


@cache
def tokenizer(specials: tuple[str, ...] = (), bos: bool = True) -> TextTokenizer:
    """Byte-level BPE with single digits, as Qwen's; `bos` begins every text with `<s>`, as Llama's does."""
    tokens = Tokenizer(models.BPE())
    blanks = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), blanks])
    tokens.decoder = decoders.ByteLevel()
    named = ["<pad>", "<unk>", "<s>", "</s>", *specials]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=named, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokens.train_from_iterator(TEXTS * 2, trainer)
    if bos:
        tokens.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), named, strict=False))
    if specials:
        names["eos_token"] = "<|im_end|>"
    return wrap_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokens, **names), "a test", needs_bos=False)


def build(body: str = "llama", feature: str = "patch", tied: bool = False) -> tuple[VisionLanguageModel, TextTokenizer]:
    qwen = body == "qwen2"
    text = tokenizer(("<|im_start|>", "<|im_end|>"), bos=False) if qwen else tokenizer()
    config = small.config(body, "clip", "mlp2x_gelu", select_layer=-2, select_feature=feature)
    fields: dict[str, Any] = {
        "vocab_size": len(text.hf), "max_position_embeddings": 2048, "tie_word_embeddings": tied,
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 32,  # vLLM's attention on a CPU knows no smaller one
    }  # fmt: skip
    shaped = type(config.body).from_dict(config.body.to_dict() | fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionLanguageModel(replace(config, body=shaped, head="lm", max_length=1536))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
            if not tied:  # it likes to answer with numbers
                model.lm_head.weight[[text.ids(str(digit))[0] for digit in range(10)]] *= 4
    return model.eval(), text


def save(folder: Path, model: VisionLanguageModel, text: TextTokenizer, **fields: Any) -> Path:
    """In the published layout; `fields` go into config.json."""
    save_vlm(folder, model, text, default_settings("clip_vision_model", small.PIXELS))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder
