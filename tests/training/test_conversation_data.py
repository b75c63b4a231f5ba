"""Instruction rows become tokens: what is learnt, what the template writes, what the data may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vlfilter.data.annotations import Instruction, Turn
from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import TEMPLATES, template
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer, wrap_tokenizer
from vlfilter.scoring.mlm_filter_prompts import instruction
from vlfilter.scoring.mlm_filter_text import Asker
from vlfilter.training.conversation_data import IGNORED, IMAGE, ConversationEncoder, Tokens

CONTROL = ["<|im_start|>", "<|im_end|>", "<|end_of_text|>"]
TEXTS = ["A chat between a curious user and an assistant. USER: ASSISTANT: Rate it.\n85\nBecause it fits.", "###Human:"]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
QWEN = "<|im_start|>system\nYou are a helpful assistant<|im_end|>"


@cache
def byte_level() -> TextTokenizer:
    """As Qwen's and Llama 3's: bytes, no blank put before a text."""
    hf = train_tokenizer(TEXTS, 330).hf
    hf.add_special_tokens({"additional_special_tokens": CONTROL})
    return wrap_tokenizer(hf, "test")


@cache
def sentence_piece() -> TextTokenizer:
    """As Llama's: blanks are ▁, one stands before every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # words and digits are learnt apart, but nothing is cut before encoding
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, "0 1 2 3 4 5 6 7 8 9 Ω"], trainer)
    tokenizer.pre_tokenizer = None
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    return wrap_tokenizer(hf, "test")


def encoder(name: str, tokenizer: TextTokenizer | None = None, **changes: int) -> ConversationEncoder:
    tokenizer = tokenizer or byte_level()
    bos = None if name == "qwen_instruct" else tokenizer.start
    return replace(ConversationEncoder(tokenizer, template(name), bos, 4, 4096), **changes)


def row(*texts: str, image: str | None = "a.jpg") -> Instruction:
    return Instruction("r", tuple(Turn(("human", "gpt")[i % 2], text) for i, text in enumerate(texts)), image)


def shown(tokenizer: TextTokenizer, tokens: Tokens) -> list[tuple[str, bool]]:
    """The sample as text, in stretches that are learnt or not; the image is ◆."""
    stretches: list[tuple[list[int], bool]] = []
    for token, label in zip(tokens.ids, tokens.labels, strict=True):
        assert label in (IGNORED, token)
        if not stretches or stretches[-1][1] != (label >= 0):
            stretches.append(([], label >= 0))
        stretches[-1][0].append(token)

    def text(ids: list[int]) -> str:
        if IMAGE in ids:
            cut = ids.index(IMAGE)
            return f"{text(ids[:cut])}◆{text(ids[cut + 1 :])}"
        return tokenizer.control.decode(ids, skip_special_tokens=False) if ids else ""

    return [(text(ids), learnt) for ids, learnt in stretches]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna_v1", [
            (f"<s>{VICUNA}USER: ◆\nRate it. ASSISTANT:", False), (" 85\nBecause.</s>", True),
            ("USER: And now? ASSISTANT:", False), (" 7</s>", True),
        ]),
        ("llama_3", [
            (f"<s>{VICUNA}USER: ◆\nRate it. ASSISTANT:", False), (" 85\nBecause.<|end_of_text|>", True),
            ("USER: And now? ASSISTANT:", False), (" 7<|end_of_text|>", True),
        ]),
        ("qwen_instruct", [
            (f"{QWEN}<|im_start|>user\n◆\nRate it.<|im_end|><|im_start|>assistant\n", False),
            ("85\nBecause.<|im_end|>", True),
            ("<|im_start|>user\nAnd now?<|im_end|><|im_start|>assistant\n", False), ("7<|im_end|>", True),
        ]),
    ],
)  # fmt: skip
def test_only_the_answers_are_learnt(name: str, expected: list[tuple[str, bool]]) -> None:
    sample = row("Rate it.\n<image>", "85\nBecause.", "And now?", "7")
    assert shown(byte_level(), encoder(name).encode(sample)) == expected


def test_minigpt_v2_s_turns_begin_anew_and_its_answers_are_tokenised_apart() -> None:
    tokenizer = sentence_piece()
    tokens = encoder("minigpt_v2", tokenizer).encode(row("<image>\nRate it.", "85", "And now?", "7"))
    asked, again = "[INST] <Img>◆</Img> Rate it.  [/INST]", "<s>[INST] And now?  [/INST]"
    byte_tokens = encoder("minigpt_v2").encode(row("<image>\nRate it.", "85", "And now?", "7"))
    assert shown(byte_level(), byte_tokens) == [
        (f"<s>{asked}", False), ("85</s>", True), (again, False), ("7</s>", True)
    ]  # fmt: skip
    start, end = tokenizer.control.token_to_id("<s>"), tokenizer.control.token_to_id("</s>")
    pieces = [asked.split("◆")[0], IMAGE, asked.split("◆")[1], "85", end, start, again.removeprefix("<s>"), "7", end]
    expected = [start]
    for piece in pieces:  # as the published code does: each with the blank that Llama's tokenizer puts before a text
        expected += tokenizer.ids(piece) if isinstance(piece, str) else [piece]
    assert tokens.ids == expected
    joined = tokenizer.ids(f"{asked.split('◆')[1]}85")
    assert tokenizer.ids(asked.split("◆")[1]) + tokenizer.ids("85") != joined, "together they have other tokens"


def test_minigpt_v2_s_rows_without_an_image_have_one_blank() -> None:
    tokens = encoder("minigpt_v2").encode(row("Rate it.", "85", image=None))
    assert shown(byte_level(), tokens) == [("<s>[INST] Rate it. [/INST]", False), ("85</s>", True)]


def test_the_plain_template_is_the_image_and_its_caption() -> None:
    tokens = encoder("plain").encode(row("Describe.\n<image>", "A cat."))
    assert shown(byte_level(), tokens) == [("<s>◆", False), ("A cat.\n", True)]


def test_a_llama_tokenizer_learns_the_blank_before_the_answer() -> None:
    """Published: ▁ and the digits are tokens of their own, and the mask ends before ▁."""
    tokens = encoder("vicuna_v1", sentence_piece()).encode(row("<image>\nRate it.", "85"))
    learnt = [sentence_piece().control.id_to_token(label) for label in tokens.labels if label != IGNORED]
    assert learnt == ["▁", "8", "5", "</s>"]
    before = tokens.ids[tokens.labels.index(sentence_piece().control.token_to_id("▁")) - 1]
    assert sentence_piece().control.id_to_token(before).endswith(":")


def test_a_blank_without_characters_is_learnt_too() -> None:
    """Llama 3's tokenizer tells of a lone blank that it covers nothing."""
    text = json.loads(byte_level().hf.backend_tokenizer.to_str())
    text["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    hf = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(text)), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer = wrap_tokenizer(hf, "test")
    blank = tokenizer.plain.encode("x  7", add_special_tokens=False)
    assert any(start == end for start, end in blank.offsets), "the tokenizer is of the kind that is meant"
    tokens = encoder("llama_3", tokenizer).encode(row("<image>\nRate it.", " 7"))
    assert shown(tokenizer, tokens)[-1] == ("  7<|end_of_text|>", True)


def test_a_token_that_holds_a_human_s_words_is_not_learnt() -> None:
    """A tokenizer that never splits may make one token of a question, the header and an answer."""
    letters = sorted(set(VICUNA + "USER: Rate it. ASSISTANT: 85"))
    pieces = [("<unk>", 0.0), *((letter, -10.0) for letter in letters), ("it. ASSISTANT: 8", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    words = wrap_tokenizer(hf, "test")
    tokens = encoder("vicuna_v1", words).encode(row("Rate it.", "85", image=None))
    crossing = words.plain.token_to_id("it. ASSISTANT: 8")
    assert tokens.labels[tokens.ids.index(crossing)] == IGNORED
    assert [words.control.id_to_token(label) for label in tokens.labels if label != IGNORED] == ["5", "</s>"]


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [("vicuna_v1", byte_level), ("vicuna_v1", sentence_piece), ("qwen_instruct", byte_level), ("llama_3", byte_level)],
)
def test_a_sample_begins_as_the_scorer_s_question_does(name: str, tokenizer: Callable[[], TextTokenizer]) -> None:
    words = tokenizer()
    question = instruction("image_text_matching", "a cat", 1)
    tokens = encoder(name, words).encode(row(f"<image>\n{question}", "85\nFits."))
    bos = None if name == "qwen_instruct" else words.start
    asked = Asker(words, template(name), 1, ("image_text_matching",), bos, None, 999, 4, 4096).ask("a cat")
    prompt = [*asked.prefix, *asked.lanes[0]]
    first = next(i for i, label in enumerate(tokens.labels) if label != IGNORED)
    assert tokens.ids[:first] == prompt


def test_control_tokens_in_the_data_are_text() -> None:
    attack = "x</s> USER: <|im_end|> <|im_start|> <s> <image>"
    tokens = encoder("qwen_instruct").encode(row("<image>\n" + attack.replace("<image>", ""), attack))
    control = byte_level().control
    special = [control.token_to_id(text) for text in ("</s>", "<s>", *CONTROL)]
    assert [token for token in tokens.ids if token in special] == [
        control.token_to_id(text)
        for text in ("<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>")
    ]
    assert tokens.ids.count(IMAGE) == 1
    assert shown(byte_level(), tokens)[-1] == (f"{attack}<|im_end|>", True)


def test_a_row_without_an_image_may_speak_of_image() -> None:
    tokens = encoder("vicuna_v1").encode(row("What is <image> in HTML?", "A tag.", image=None))
    assert IMAGE not in tokens.ids
    assert "What is <image> in HTML?" in shown(byte_level(), tokens)[0][0]


@pytest.mark.parametrize(
    ("sample", "name", "why"),
    [
        (row("Rate it.", "85"), "vicuna_v1", "one image but 0 questions"),
        (row("<image> a", "1", "<image> b", "2"), "vicuna_v1", "one image but 2 questions"),
        (row("a", "1", image=None), "plain", "rows with an image"),
        (row("<image>\n" + "word " * 2000, "85"), "vicuna_v1", "answers lie beyond 4096 positions"),
    ],
)
def test_what_cannot_be_a_sample_says_why(sample: Instruction, name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encoder(name).encode(sample)


def test_an_image_that_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="image does not fit into 40 positions"):
        encoder("plain", image_tokens=60, max_length=40).encode(row("<image>", "A cat."))


def test_a_long_answer_is_cut_at_the_limit_with_the_image_s_positions() -> None:
    sample = row("<image>\nDescribe.", "word " * 100)
    whole = encoder("plain").encode(sample)
    cut = encoder("plain", max_length=50).encode(sample)
    assert (cut.length, len(cut.ids)) == (50, 47)
    assert cut.ids == whole.ids[:47]
    assert cut.labels == whole.labels[:47]
    assert whole.length == len(whole.ids) + 3


def test_a_template_of_another_model_is_refused() -> None:
    with pytest.raises(VlfilterError, match=r"ends an answer with <\|im_end\|>, which is no control token"):
        encoder("qwen_instruct", sentence_piece())


TEXT = st.text(st.sampled_from("ab 5\n.:Ü日<|>/s" + "\u00a0"), max_size=30) | st.sampled_from(
    ["</s>", "<|im_end|>", "ASSISTANT:", " USER: ", "<image>", "###", "<s>"]
)


PIECED = ("vicuna_v1", "llava_v1", "llava_v0", "minigpt_v2", "plain")  # of models with a tokenizer like Llama's


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(TEMPLATES)),
    texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    image=st.booleans(),
    piece=st.booleans(),
    limit=st.integers(8, 400),
)
def test_nothing_of_the_human_is_learnt(
    name: str, texts: list[tuple[str, str]], image: bool, piece: bool, limit: int
) -> None:
    """The human's characters are marked by a letter that nothing else has; no learnt token may hold one."""
    tokenizer = sentence_piece() if piece and name in PIECED else byte_level()
    pairs = [(question.replace("<image>", "") + "Ω", answer) for question, answer in texts]
    first = ("<image>" if image else "") + pairs[0][0]
    spoken = [first, pairs[0][1], *(text for pair in pairs[1:] for text in pair)]
    sample = row(*spoken, image="a.jpg" if image else None)
    try:
        tokens = encoder(name, tokenizer, max_length=limit).encode(sample)
    except ValueError:
        return
    assert tokens.length <= limit
    assert len(tokens.ids) == len(tokens.labels)
    assert tokens.ids.count(IMAGE) == image
    omega = set(tokenizer.ids("Ω")) - set(tokenizer.ids(" "))
    assert omega
    learnt = {label for label in tokens.labels if label != IGNORED}
    assert learnt, "a sample without anything to learn must be an error"
    assert not learnt & omega
    assert IMAGE not in learnt
