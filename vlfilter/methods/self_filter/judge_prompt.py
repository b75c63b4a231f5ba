"""The question that Self-Filter asks a judge about an instruction (arXiv 2402.12501); the judge sees no image."""

from __future__ import annotations

PROMPT = """\
We would like to request your feedback on the performance of AI assistant in response to the user's questions in the \
conversation displayed following.

Conversation: {text}

Please rate according to the quality of the responses to the questions. The assistant should receive a score on a \
scale of 0 to 10, where a higher score indicates higher level of the quality. Please first output a single line \
containing the value indicating the scores. In the subsequent line, please provide a comprehensive explanation of your \
evaluation, avoiding any potential bias."""


def judge_prompt(text: str) -> str:
    """The published wording about a conversation (`USER: … ASSISTANT: …`)."""
    return PROMPT.replace("{text}", text)
