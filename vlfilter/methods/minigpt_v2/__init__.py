"""MiniGPT-v2 fine-tuned on a mixture with the data engine's questions (MLLM-DataEngine, arXiv 2308.13566)."""
