"""The questions, character by character: hashes of what the published code writes."""

from __future__ import annotations

from hashlib import sha256

import pytest

from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import template
from vlfilter.scoring.mlm_filter_prompts import CRITERIA, METRICS, instruction, question_part, read_metrics

ITM, ODF, CTQ, SU = METRICS
CAPTION = "a dog running on the beach"
# (version, template, metric, length, sha256) of the whole prompt about CAPTION
PROMPTS = [
    (1, "llava_v0", ITM, 1094, "e53f5fb76f91fc3e3488bb98ee4ec56900a999d80c0928f9091807c0f329bd80"),
    (1, "llava_v0", ODF, 1152, "8fb84793f18b60c2321e09d3e52a8337abefd29d5a175f1bf8ce40a9f985da7a"),
    (1, "llava_v0", CTQ, 1068, "e5802046ed5b6cb7fff9becc31151d5658484c960219193397a280d9ce878309"),
    (1, "llava_v0", SU, 2141, "fdf05e9e9a964400df26669600dca709eb0543254a930e05c87df2129a537e38"),
    (1, "vicuna_v1", ITM, 1087, "4aa19eff45260bc9171865b7ee3c9dad6a0ca8bba8a0fb87a1d5fe5003da572e"),
    (1, "vicuna_v1", ODF, 1145, "e1004c5b2849086e6d5488bb64b3dc96bcc420d3dc0d1a59fed6088d20ce38ba"),
    (1, "vicuna_v1", CTQ, 1061, "ff9251343cd8f12011fe38e16b710e08c5a15ad627ba7e0bab8ff0cea9e918f8"),
    (1, "vicuna_v1", SU, 2134, "b4167332684f9c484d6defb818bf69b05b1a3ee5ab9c5a1f9542d7458e22afe1"),
    (1, "llava_v1", ITM, 1089, "0745814d996624ef52ddb578f192310aab085a09842c55eb896aef809be4c297"),
    (2, "qwen_instruct", ITM, 1024, "89fe0a05c9702c0cd32e5a01ce5892d6e7f64d939f909e81eb1ea34baa431884"),
    (2, "qwen_instruct", ODF, 1082, "8ed68c5c9af704a6da7885ddffc3ecec9506206a8f5f117a8c0d4d74c7c77172"),
    (2, "qwen_instruct", CTQ, 998, "8c99354e73aba936a70d5ba072a9c83fe127fcfd031b95137d553b98e4295949"),
    (2, "qwen_instruct", SU, 2071, "b79c02721a4298d9f7d333a07fcdf9dbd5b2825a859b089d6c69735492b66801"),
    (2, "llama_3", ITM, 1091, "573ccca82e4fb62957821151492d541437a1a9065e4631939bfbf2c6143ae871"),
    (2, "llama_3", SU, 2138, "b8e31e7e2739d4d1c5766eae6b6744ed7c3d7222d06f05a9a78a987cd86564de"),
]


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(("version", "name", "metric", "length", "expected"), PROMPTS)
def test_prompts(version: int, name: str, metric: str, length: int, expected: str) -> None:
    prompt = template(name).prompt("<image>\n" + instruction(metric, CAPTION, version))
    assert (len(prompt), digest(prompt)) == (length, expected)


@pytest.mark.parametrize(
    ("version", "length", "expected"),
    [(1, 553, "9cf6924f068430c7788bab017f31586735d5bffcb7ab0145dd225311ef2aa14e"),
     (2, 557, "14d307d85a274b91d3a4986ea361ecb1034ffc0703488514e42223cdcd4436f9")],
)  # fmt: skip
def test_the_frame_of_the_question(version: int, length: int, expected: str) -> None:
    text = instruction(ITM, "{caption}", version)
    frame = text.replace(CRITERIA[ITM], "{criteria}").replace("image text matching", "{aspect}")
    assert (len(frame), digest(frame)) == (length, expected)


@pytest.mark.parametrize(
    ("metric", "length", "start"),
    [(ITM, 336, "a5dbc19a309b9fda"), (ODF, 388, "8cd5119eedb635aa"), (CTQ, 309, "1382b4e31bd7e8fa"),
     (SU, 1380, "d0c189ca02f04313")],
)  # fmt: skip
def test_criteria(metric: str, length: int, start: str) -> None:
    assert (len(CRITERIA[metric]), digest(CRITERIA[metric])[:16]) == (length, start)


def test_a_caption_comes_in_as_it_is() -> None:
    for caption in ("", "{criteria} {0}", "two\n\nlines", "%s \\n"):
        assert instruction(SU, caption, 2) == f"Text Caption: {caption}\n\n" + question_part(SU, 2)


@pytest.mark.parametrize(
    ("value", "metrics"),
    [("all", METRICS), (ITM, (ITM,)), (f"{SU}, {ITM}", (ITM, SU)), ([CTQ, CTQ], (CTQ,))],
)  # fmt: skip
def test_metrics(value: str | list[str], metrics: tuple[str, ...]) -> None:
    assert read_metrics(value) == metrics


@pytest.mark.parametrize("value", ["image_text_match", "", f"{ITM},all", f"{ITM},"])
def test_a_wrong_metric_is_one_message(value: str) -> None:
    with pytest.raises(VlfilterError, match=r"MLM-Filter has no metric .*image_text_matching.*or all"):
        read_metrics(value)
