"""MLM-Filter's questions (arXiv 2403.02677): four metrics, their criteria, and the two published versions of the text.

The wording is a fact of the protocol: the published checkpoints were trained on exactly these characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlfilter.errors import VlfilterError

METRICS = ("image_text_matching", "object_detail_fulfillment", "caption_text_quality", "semantic_understanding")

CRITERIA = {
    "image_text_matching": (
        "Please evaluate if the provided text caption accurately represents the main features and objects of the "
        "image. The caption doesn't need to detail every aspect of the image, but it should capture its primary theme. "
        "Rate the overall quality of the text caption's match to the image on a scale of 1-100, considering the "
        "criteria mentioned."
    ),
    "object_detail_fulfillment": (
        "Please evaluate the text caption to determine if it provides detailed descriptions of objects that align with "
        "the image. Specifically, assess if the caption sufficiently describes the color, size, position, shape, "
        "material, etc., of the objects. Afterward, rate the caption's overall accuracy in capturing object details "
        "from the image on a scale of 1-100, based on the criteria provided."
    ),
    "caption_text_quality": (
        "Please evaluate the text caption based on the following criteria: Grammatical Correctness, Diversity of "
        "Vocabulary (e.g., the range and uniqueness of words used), Fluency (e.g., smoothness and natural flow of "
        "sentences), Readability, Length, and Structure. Assign an overall quality score on a scale of 1-100."
    ),
    "semantic_understanding": (
        "Evaluate the given text caption in relation to its corresponding image. Your goal is to determine if the text "
        "caption provides additional semantic information that isn't readily apparent just from the image itself.\n\n"
        "For example:\n\n"
        '1. If the image mentions "a man" but the caption elaborates he is a "homeless man" or a "businessman," then '
        "the caption is enriching the semantic context.\n"
        "2. If the caption introduces concepts like the mathematical tangent function, which require in-depth "
        "knowledge to deduce, it is imparting external semantics.\n"
        "3. Captions revealing specific location addresses, festival details, or other nuanced data not easy to infer "
        "from the image also provide external semantic information.\n"
        "4. Directly identifying specific entities in the image such as buildings, people, bird species, animal "
        "breeds, car models, engines, etc., in the caption introduces additional insights.\n"
        "5. Should the image act as a contextual backdrop and the caption describes elements not explicitly showcased "
        "in the image, it has semantic depth.\n"
        "6. Lastly, if the caption depicts relationships between the subjects in the image, which need commonsense "
        "knowledge to understand, it should be considered semantically rich.\n\n"
        "Please assess and determine the extent of semantic enrichment the caption provides over the image. Rate the "
        "text caption's semantic depth on a scale from 1 to 100."
    ),
}

# The second version was written for the GPT-4o teacher; the first has two blanks where its round numbers end.
_ROUNDING = {1: "multiples of 10.  ", 2: "multiples of 5 or 10. "}


def caption_part(caption: str) -> str:
    """What all four questions of a sample begin with, after the image."""
    return f"Text Caption: {caption}\n\n"


def question_part(metric: str, version: int) -> str:
    """What follows the caption: the metric's criteria and how to answer."""
    return (
        f"{CRITERIA[metric]} A higher score indicates higher level of {metric.replace('_', ' ')}. Ensure that your "
        "scoring is nuanced and uses the entire range from 0 to 100, reflecting the subtle differences. The score "
        "should be given as an integer, with each number between 0 and 100 considered as a potential score, avoiding "
        f"the tendency to round to {_ROUNDING[version]}Please first output a single line containing the value "
        "indicating the scores. In the subsequent line, please provide a comprehensive explanation of your evaluation, "
        "avoiding any potential bias."
    )


def instruction(metric: str, caption: str, version: int) -> str:
    """The whole question about one caption; `version` 1 (13B, GPT-4V teacher) or 2 (GPT-4o teacher)."""
    return caption_part(caption) + question_part(metric, version)


def read_metrics(value: str | Sequence[str]) -> tuple[str, ...]:
    """`all`, one name, or several joined by commas → metrics in the published order. Raises `VlfilterError`."""
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    if names == ["all"]:
        return METRICS
    if unknown := [name for name in names if name not in METRICS]:
        raise VlfilterError(f"MLM-Filter has no metric {', '.join(map(repr, unknown))}: {', '.join(METRICS)}, or all.")
    return tuple(metric for metric in METRICS if metric in names)
