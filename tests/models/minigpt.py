"""MiniGPT-v2's published files, tiny and random: EVA's weights, a checkpoint, and the language model beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from vlfilter.models.tokenizer import TextTokenizer

WIDTH, PATCH = 176, 8  # two heads of 88
HIDDEN, LAYERS, RANK = 32, 2, 4


def eva_state(blocks: int = 3, side: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """timm's names; a grid of `side` × `side` patches, and what lies behind the last block."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.05

    state = {
        "cls_token": random(1, 1, WIDTH), "pos_embed": random(1, side**2 + 1, WIDTH),
        "patch_embed.proj.weight": random(WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": random(WIDTH),
    }  # fmt: skip
    for i in range(blocks):
        shapes = {
            "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,), "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,), "mlp.fc1.weight": (64, WIDTH), "mlp.fc1.bias": (64,),
            "mlp.fc2.weight": (WIDTH, 64), "mlp.fc2.bias": (WIDTH,),
        }  # fmt: skip
        state |= {f"blocks.{i}.{name}": random(*shape) for name, shape in shapes.items()}
    behind = {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,), "head.weight": (16, WIDTH), "head.bias": (16,)}
    return state | {name: random(*shape) for name, shape in behind.items()}


def eva_file(path: Path, **options: Any) -> Path:
    torch.save({name: tensor.half() for name, tensor in eva_state(**options).items()}, path)
    return path


def language(folder: Path, tokenizer: TextTokenizer) -> Path:
    """A Llama as transformers writes it."""
    config = LlamaConfig(
        vocab_size=len(tokenizer.hf), hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.hf.save_pretrained(folder)
    return folder


def checkpoint_state(*, norm: bool = False, seed: int = 1) -> dict[str, Tensor]:
    """A checkpoint's `model`."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        "llama_proj.weight": torch.randn(HIDDEN, 4 * WIDTH, generator=generator) * 0.02,
        "llama_proj.bias": torch.randn(HIDDEN, generator=generator) * 0.02,
    }
    for layer in range(LAYERS):
        for target in ("q_proj", "v_proj"):
            name = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{target}"
            state[f"{name}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=generator) * 0.3
            state[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, RANK, generator=generator) * 0.3
    if norm:
        state |= {
            "ln_vision.weight": 1 + torch.rand(WIDTH, generator=generator),
            "ln_vision.bias": torch.rand(WIDTH, generator=generator),
        }
    return state


def checkpoint_file(path: Path, state: dict[str, Tensor] | None = None) -> Path:
    """With what the published code saves beside the model."""
    model = dict(checkpoint_state() if state is None else state)
    model["llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    config = {"model": {"arch": "minigpt_v2", "lora_r": RANK, "lora_alpha": 8}, "run": {"max_epoch": 30}}
    held = {
        "model": model, "config": config, "epoch": 3,
        "optimizer": {"state": {0: {"step": torch.tensor(9.0), "exp_avg": torch.zeros(3)}}, "param_groups": []},
        "scaler": {"scale": 65536.0},
    }  # fmt: skip
    torch.save(held, path)
    return path
