"""The published recipes: what `train_settings` starts from. Batch sizes are those of eight GPUs together.

Sources: MLM_Filter, LLaVA_ft/scripts/v1_5/finetune.sh and pretrain.sh (LLaVA-1.5's own); LLaVA-Unified/scripts/
mlm_filter/finetune.sh and pretrain.sh; UniFilter, scripts/v1_5/pretrain.sh and train_classifier.sh at its first commit
(Qwen2.5) and its last (Qwen3); Self-Filter, run_stage1_*.sh and llava_instruction_tuning.sh; MLLM-DataEngine,
train_configs/ccsbualign_aokvqa at version 1.0, and train_configs/minigptv2_finetune_dataengine.yaml.
"""

from __future__ import annotations

from typing import Any

_STAGE_1: dict[str, Any] = {
    "template": "plain", "trainable": "projector", "learning_rate": 1e-3, "epochs": 1, "zero": "2",
    "image_mode": "processor", "group_by_modality_length": False, "save_steps": 24000,
}  # fmt: skip
_VICUNA: dict[str, Any] = {
    "language_model": "lmsys/vicuna-13b-v1.5", "vision_tower": "openai/clip-vit-large-patch14-336",
    "projector_kind": "mlp2x_gelu", "select_layer": -2, "max_length": 2048,
}  # fmt: skip
_QWEN: dict[str, Any] = {
    "language_model": "Qwen/Qwen2.5-1.5B-Instruct", "vision_tower": "google/siglip-so400m-patch14-384",
    "projector_kind": "aapool_mlp", "image_tokens": 144, "select_layer": -1,
}  # fmt: skip

# UniFilter's stage 1 prepends bos; Qwen's tokenizers have none, so the token is named
_UNIFILTER_STAGE_1: dict[str, Any] = _STAGE_1 | {"bos": "always", "batch_size": 512, "projector_kind": "aapool_mlp"}
_UNIFILTER: dict[str, Any] = {
    "objective": "classifier", "labels": 1, "epochs": 10, "batch_size": 512, "per_device_batch": 32, "eval_batch": 16,
    "learning_rate": 2e-5, "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine", "zero": "3",
    "image_mode": "pad", "group_by_modality_length": False, "data_workers": 4, "save_total_limit": 2,
}  # fmt: skip
_QWEN_0_5B: dict[str, Any] = _QWEN | {"language_model": "Qwen/Qwen2.5-0.5B-Instruct"}
_QWEN3: dict[str, Any] = _QWEN | {
    "language_model": "Qwen/Qwen3-0.6B", "vision_tower": "google/siglip2-so400m-patch14-384", "start_token": "<s>",
}  # fmt: skip
# Self-Filter's stage 1, and the tuning that its authors list for the subset: the original LLaVA, not 1.5. The published
# 50,000 save_steps are more than its 3,699 steps: no checkpoint was ever written.
_LLAVA_7B: dict[str, Any] = {
    "language_model": "lmsys/vicuna-7b-v1.3", "vision_tower": "openai/clip-vit-large-patch14",
    "projector": "liuhaotian/llava-pretrain-vicuna-7b-v1.3", "projector_kind": "linear", "select_layer": -2,
    "template": "vicuna_v1", "image_mode": "processor", "max_length": 2048, "epochs": 3, "batch_size": 128,
    "per_device_batch": 16, "learning_rate": 2e-5, "weight_decay": 0.0, "warmup_ratio": 0.03, "schedule": "cosine",
    "max_grad_norm": 0.0, "group_by_modality_length": False, "zero": "3", "seed": 42, "save_steps": 500,
}  # fmt: skip
# MLLM-DataEngine's step 5: 4 GPUs of 16 samples, each drawing for itself. Its model is MiniGPT-4 (a Q-Former
# before Vicuna v0, 160 tokens of text, random crops, fp16): its numbers, for our model of LLaVA-1.5's parts.
_DATA_ENGINE: dict[str, Any] = _VICUNA | {
    "language_model": "lmsys/vicuna-7b-v1.5", "template": "vicuna_v1", "image_mode": "pad",
    "projector": "liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5",
    "trainable": "lora", "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "lora_targets": ("q_proj", "k_proj"),
    "epochs": 10, "iters_per_epoch": 300, "batch_size": 64, "draws": 4, "per_device_batch": 16,
    "learning_rate": 3e-4, "schedule": "warmup_cosine", "warmup_steps": 200, "warmup_learning_rate": 1e-6,
    "min_learning_rate": 1e-5, "weight_decay": 0.05, "max_grad_norm": 0.0, "max_length": 1024,
    "group_by_modality_length": False, "zero": "2", "seed": 42, "save_steps": 300,
}  # fmt: skip
# MLLM-DataEngine's second model: 8 GPUs, each drawing for itself a batch of at most 6 (the mixture names the smaller
# ones). Published: float16, at most 3,800 positions before an answer and 1,024 of it; Llama 2 has 4,096. An epoch's
# checkpoint was kept each; the files of the start are told by their published names.
_MINIGPT_V2: dict[str, Any] = {
    "language_model": "meta-llama/Llama-2-7b-chat-hf", "vision_tower": "eva_vit_g.pth", "image_size": 448,
    "adapter": "checkpoint_stage2.pth", "projector_kind": "concat4", "select_layer": -1,
    "template": "minigpt_v2", "image_mode": "processor", "max_length": 4096,
    "trainable": "lora+projector", "lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.05,
    "lora_targets": ("q_proj", "v_proj"), "epochs": 30, "iters_per_epoch": 1000, "batch_size": 48, "draws": 8,
    "per_device_batch": 6, "learning_rate": 1e-5, "schedule": "warmup_cosine", "warmup_steps": 1000,
    "warmup_learning_rate": 1e-6, "min_learning_rate": 1e-6, "weight_decay": 0.05, "max_grad_norm": 0.0,
    "group_by_modality_length": False, "zero": "2", "seed": 42, "save_steps": 1000, "data_workers": 6,
}  # fmt: skip
# for tests and demonstrations, a checkpoint of some thousand parameters on a CPU
_TINY: dict[str, Any] = {
    "epochs": 1, "batch_size": 8, "per_device_batch": 4, "learning_rate": 2e-3, "max_length": 512, "zero": "none",
    "device": "cpu", "processes": 1, "data_workers": 0, "save_steps": 50, "gradient_checkpointing": False,
}  # fmt: skip

RECIPES: dict[str, dict[str, Any]] = {
    "mlm_filter_13b": _VICUNA | {
        "projector": "liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-13b-v1.5", "template": "vicuna_v1",
        "epochs": 2, "batch_size": 128, "per_device_batch": 16, "learning_rate": 2e-5, "zero": "3",
        "save_steps": 50000,
    },
    "mlm_filter_13b_projector": _VICUNA | _STAGE_1 | {"batch_size": 256, "per_device_batch": 32},
    "mlm_filter_qwen2.5_1.5b": _QWEN | {
        "template": "qwen_instruct", "epochs": 1, "batch_size": 128, "per_device_batch": 4, "learning_rate": 2e-5,
        "max_length": 4096, "zero": "3", "save_steps": 1000, "save_total_limit": 1,
    },
    "mlm_filter_qwen2.5_1.5b_projector": _QWEN | _STAGE_1 | {
        "batch_size": 512, "per_device_batch": 64, "max_length": 2048,
    },
    "mlm_filter_tiny": _TINY | {"template": "vicuna_v1"},
    # The script of the first commit pretrains with 32 × 2 accumulated; the last one, for Qwen3, with 64.
    "unifilter_qwen2.5_1.5b_projector": _QWEN | _UNIFILTER_STAGE_1 | {"per_device_batch": 32, "max_length": 2048},
    "unifilter_qwen2.5_1.5b": _QWEN | _UNIFILTER | {"max_length": 4096},
    "unifilter_qwen2.5_0.5b_projector": _QWEN_0_5B | _UNIFILTER_STAGE_1 | {"per_device_batch": 32, "max_length": 2048},
    "unifilter_qwen2.5_0.5b": _QWEN_0_5B | _UNIFILTER | {"max_length": 4096},
    "unifilter_qwen3_0.6b_projector": _QWEN3 | _UNIFILTER_STAGE_1 | {"per_device_batch": 64, "max_length": 4096},
    "unifilter_qwen3_0.6b": _QWEN3 | _UNIFILTER | {"max_length": 8192},
    "unifilter_tiny_projector": _STAGE_1 | _TINY | {"bos": "always"},
    "unifilter_tiny": _UNIFILTER | _TINY | {"epochs": 3},
    "self_filter_llava_7b": _LLAVA_7B | {"objective": "self_filter"},
    "self_filter_tiny": _TINY | {
        "objective": "self_filter", "template": "vicuna_v1", "max_grad_norm": 0.0, "group_by_modality_length": False,
        "epochs": 3,
    },
    "data_engine_minigpt4_7b": _DATA_ENGINE,
    "data_engine_minigpt4_13b": _DATA_ENGINE | {
        "language_model": "lmsys/vicuna-13b-v1.5", "epochs": 20, "batch_size": 32, "per_device_batch": 8,
        "projector": "liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-13b-v1.5",
    },
    "data_engine_tiny": _TINY | {
        "template": "vicuna_v1", "trainable": "lora+projector", "iters_per_epoch": 20,
        "group_by_modality_length": False, "schedule": "warmup_cosine", "warmup_steps": 4,
        "warmup_learning_rate": 1e-6, "min_learning_rate": 1e-5,
    },
    "minigpt_v2_dataengine": _MINIGPT_V2,
    "minigpt_v2_tiny": _TINY | {
        "template": "minigpt_v2", "image_mode": "processor", "trainable": "lora+projector", "lora_alpha": 8,
        "lora_targets": ("q_proj", "v_proj"), "iters_per_epoch": 20, "group_by_modality_length": False,
        "schedule": "warmup_cosine", "warmup_steps": 4, "warmup_learning_rate": 1e-4, "min_learning_rate": 1e-4,
        "weight_decay": 0.05, "max_grad_norm": 0.0,
    },
    "llava_7b_instruct": _LLAVA_7B,
    "llava_1.5_7b_instruct": _VICUNA | {
        "language_model": "lmsys/vicuna-7b-v1.5", "template": "vicuna_v1", "epochs": 1, "batch_size": 128,
        "projector": "liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5", "per_device_batch": 16,
        "learning_rate": 2e-5, "image_mode": "pad", "group_by_modality_length": True, "zero": "3", "save_steps": 500,
    },
}  # fmt: skip
