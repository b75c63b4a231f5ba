"""CLIP scores against the plain calls of transformers and open_clip."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from tests.helpers import picture
from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.models import clip_text
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.scoring.base import Scorer, ScorerSettings
from vlfilter.scoring.clip_score import ClipScore

CAPTIONS = [
    "a photo of a cat",
    "",
    "Ünïcode – 漢字 &amp; 🚌  with\n spaces, don't",
    "many words in a row " * 40,
    "IMG_1234.jpg",
    "x" * 3000,
]
IMAGES = [
    picture(seed, size) for seed, size in enumerate([(64, 48), (33, 90), (224, 224), (301, 200), (5, 7), (400, 300)])
]
LIBRARY = open_clip.tokenizer.SimpleTokenizer()
PAIRS = [ImageText(image, caption) for image, caption in zip(IMAGES, CAPTIONS, strict=True)]


def make(model: str, **changes: Any) -> ClipScore:
    scorer = ClipScore(ScorerSettings(model, device="cpu", **changes))
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def hf(hf_folder: Path) -> ClipScore:
    return make(str(hf_folder))


@pytest.fixture(scope="module")
def oc(open_clip_folder: Path) -> ClipScore:
    return make(f"open_clip:{open_clip_folder}")


def scores(scorer: ClipScore, pairs: list[ImageText]) -> list[float]:
    found: list[float] = list(scorer.score([scorer.prepare(pair) for pair in pairs])["clip_score"])
    return found


def test_it_is_a_scorer(hf: ClipScore) -> None:
    assert isinstance(hf, Scorer)
    assert set(hf.score([hf.prepare(PAIRS[0])])) == set(hf.columns.names)


def test_equals_transformers(hf: ClipScore, hf_folder: Path) -> None:
    assert json.loads((hf_folder / "config.json").read_text())["architectures"] == ["CLIPModel"]
    model = CLIPModel.from_pretrained(hf_folder).eval()
    texts = CLIPTokenizer.from_pretrained(hf_folder)(CAPTIONS, padding=True, truncation=True, return_tensors="pt")
    images = CLIPImageProcessorPil.from_pretrained(hf_folder)(IMAGES, return_tensors="pt")
    with torch.no_grad():
        out = model(**texts, **images)
        expected = (out.image_embeds * out.text_embeds).sum(-1)
    assert scores(hf, PAIRS) == pytest.approx(expected.tolist(), abs=1e-5)
    assert len({round(score, 3) for score in expected.tolist()}) > 3


def test_equals_open_clip(oc: ClipScore, open_clip_folder: Path) -> None:
    name = f"local-dir:{open_clip_folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        image = model.eval().encode_image(torch.stack([transform(i) for i in IMAGES]), normalize=True)
        text = model.encode_text(tokenizer(CAPTIONS), normalize=True)
    assert scores(oc, PAIRS) == pytest.approx((image * text).sum(-1).tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["hf", "oc"])
def test_neighbours_never_change_a_score(name: str, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    alone = [scores(scorer, [pair])[0] for pair in PAIRS]
    assert scores(scorer, PAIRS * 3) == pytest.approx(alone * 3, abs=1e-5)


@pytest.mark.parametrize("name", ["hf", "oc"])
def test_long_captions_are_flagged(name: str, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    prepared = [scorer.prepare(pair) for pair in PAIRS]
    assert scorer.score(prepared)["truncated"] == [False, False, False, True, False, True]
    ids = prepared[3].payload.ids
    assert (len(ids), ids[-1]) == (77, 49407)


@pytest.mark.parametrize("name", ["hf", "oc"])
@pytest.mark.parametrize(("words", "truncated"), [(75, False), (76, True)])
def test_the_flag_is_exact(name: str, words: int, truncated: bool, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    pair = ImageText(picture(), " ".join(["cat"] * words))
    assert scorer.score([scorer.prepare(pair)])["truncated"] == [truncated]


@settings(max_examples=150, deadline=None)
@given(caption=st.text(max_size=200))
def test_any_caption_gives_open_clip_s_own_ids(oc: ClipScore, caption: str) -> None:
    ids, truncated = oc.loaded.tokens(caption)
    assert ids == LIBRARY(caption)[0].tolist()
    assert truncated == (len(LIBRARY.encode(caption)) > 75)


@pytest.mark.parametrize("name", ["hf", "oc"])
def test_blanks_do_not_use_up_the_text(name: str, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    spread, plain = (scorer.loaded.tokens(text) for text in ("a" + " \n" * 5_000 + "cat", "a cat"))
    assert spread == plain


@pytest.mark.parametrize(("name", "word"), [("hf", "<|endoftext|>"), ("oc", "<end_of_text>"), ("oc", "<END_OF_TEXT>")])
def test_control_tokens_in_captions_stay_text(name: str, word: str, request: pytest.FixtureRequest) -> None:
    """As the libraries read it, the text behind such a word does not count at all."""
    scorer: ClipScore = request.getfixturevalue(name)
    library = make(scorer.settings.model, compat="original")
    pairs = [ImageText(picture(), f"cat {word} dog"), ImageText(picture(), f"cat {word} bird")]
    first, second = scores(scorer, pairs)
    assert abs(first - second) > 1e-6
    first, second = scores(library, pairs)
    assert first == pytest.approx(second, abs=1e-6)


def test_very_long_captions_are_not_tokenised_whole(hf: ClipScore, oc: ClipScore) -> None:
    caption = "many different words, " * 50_000
    for scorer in (hf, oc):
        assert len(scorer.prepare(ImageText(picture(), caption)).payload.ids) == 77


def test_the_word_cache_is_bounded(oc: ClipScore, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = oc.loaded.tokens._tokenizer.cache  # type: ignore[attr-defined]
    monkeypatch.setattr(clip_text, "CACHED_WORDS", len(cache) + 5)
    for n in range(100):
        oc.loaded.tokens("zq" + "x" * n)
    assert len(cache) == clip_text.CACHED_WORDS


@pytest.mark.parametrize("name", ["hf", "oc"])
def test_threads_prepare_what_one_thread_prepares(name: str, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    pairs = [ImageText(IMAGES[n % 6], f"picture {n} of many " * (n % 30)) for n in range(120)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(scorer.prepare, pairs))
    assert [p.payload.ids for p in threaded] == [scorer.prepare(pair).payload.ids for pair in pairs]


def test_documents_are_not_scored(hf: ClipScore) -> None:
    with pytest.raises(SampleError, match="not a document") as caught:
        hf.prepare(Interleaved(("a",), (None,), (None,)))
    assert caught.value.status == Status.UNSUPPORTED


@pytest.mark.parametrize("name", ["hf", "oc"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(name: str, dtype: str, request: pytest.FixtureRequest) -> None:
    scorer: ClipScore = request.getfixturevalue(name)
    half = make(scorer.settings.model, dtype=dtype)
    assert scores(half, PAIRS) == pytest.approx(scores(scorer, PAIRS), abs=0.02)


def test_a_score_that_is_no_number_fails_the_sample(hf_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(hf_folder, folder)
    state = load_file(folder / "model.safetensors")
    state["text_projection.weight"].fill_(float("nan"))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SampleError, match="not a number"):
        scores(make(str(folder)), PAIRS[:1])


def _spoiled(source: Path, target: Path, *, remove: str = "", **config: Any) -> str:
    shutil.copytree(source, target)
    if remove:
        (target / remove).unlink()
    path = target / ("config.json" if (target / "config.json").is_file() else "open_clip_config.json")
    if config:
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return str(target)


@pytest.mark.parametrize(
    ("remove", "config", "message"),
    [
        ("model.safetensors", {}, "has no weights"),
        ("config.json", {}, r"has no config\.json"),
        ("tokenizer.json", {}, "has no tokenizer"),
        ("", {"model_type": "siglip"}, "not a CLIP.*open_clip"),
    ],
)
def test_spoiled_transformers_folders_are_told_at_once(
    hf_folder: Path, tmp_path: Path, remove: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(VlfilterError, match=message):
        ClipScore(ScorerSettings(_spoiled(hf_folder, tmp_path / "m", remove=remove, **config)))


def test_missing_tensors_are_told(hf_folder: Path, tmp_path: Path) -> None:
    folder = Path(_spoiled(hf_folder, tmp_path / "m"))
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VlfilterError, match=r"1 missing: visual_projection\.weight"):
        make(str(folder))


def test_spoiled_open_clip_folders_are_told(open_clip_folder: Path, tmp_path: Path) -> None:
    without_weights = _spoiled(open_clip_folder, tmp_path / "a", remove="open_clip_model.safetensors")
    with pytest.raises(VlfilterError, match="has no weights"):
        ClipScore(ScorerSettings(f"open_clip:{without_weights}"))
    with pytest.raises(VlfilterError, match=r"has no open_clip_config\.json"):
        ClipScore(ScorerSettings(f"open_clip:{tmp_path}"))
    with pytest.raises(VlfilterError, match="write open_clip:"):
        ClipScore(ScorerSettings(str(open_clip_folder)))
    (tmp_path / "a" / "open_clip_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(VlfilterError, match="open_clip cannot load"):
        make(f"open_clip:{tmp_path / 'a'}")


@pytest.mark.parametrize("model", ["open_clip:ViT-B-32", "open_clip:/nowhere/at/all", "open_clip:", "/nowhere"])
def test_names_of_no_known_form_are_told(model: str) -> None:
    with pytest.raises(VlfilterError, match=r"nowhere|OWNER/NAME"):
        ClipScore(ScorerSettings(model))


@pytest.mark.parametrize(
    "changes", [{"compat": "orignal"}, {"dtype": "int8"}, {"options": {"image_mode": "pad"}}], ids=str
)
def test_wrong_settings_are_refused_at_once(hf_folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(VlfilterError):
        ClipScore(ScorerSettings(str(hf_folder), **changes))


def test_the_fingerprint_tells_what_changes_a_score(hf_folder: Path, open_clip_folder: Path, tmp_path: Path) -> None:
    def fingerprint(model: str, **changes: Any) -> str:
        return digest(ClipScore(ScorerSettings(model, **changes)).fingerprint())

    other = Path(_spoiled(open_clip_folder, tmp_path / "m"))
    same = fingerprint(f"open_clip:{other}")
    (other / "open_clip_config.json").write_text((other / "open_clip_config.json").read_text() + " ")
    prints = [
        fingerprint(str(hf_folder)),
        fingerprint(str(hf_folder), dtype="float16"),
        fingerprint(str(hf_folder), compat="original"),
        fingerprint(f"open_clip:{open_clip_folder}"),
        fingerprint(f"open_clip:{other}"),
        fingerprint("open_clip:ViT-B-32/laion2b_s34b_b79k"),
        fingerprint("open_clip:ViT-B-32/openai"),
    ]
    assert len(set(prints)) == len(prints)
    assert same == fingerprint(f"open_clip:{open_clip_folder}")


def test_checking_and_fingerprinting_need_no_torch(hf_folder: Path) -> None:
    code = (
        "import sys\nfrom vlfilter.scoring.base import make_scorer, ScorerSettings\n"
        f"make_scorer('clip_score', ScorerSettings({str(hf_folder)!r})).fingerprint()\n"
        "print([m for m in ('torch', 'transformers', 'open_clip') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_images_are_not_kept(hf: ClipScore) -> None:
    """A prepared sample holds bytes of the model's size, not the decoded picture."""
    payload = hf.prepare(ImageText(Image.new("RGB", (3000, 2000)), "a cat")).payload
    assert payload.pixels.nbytes == 224 * 224 * 3


def test_open_clip_models_with_a_tokenizer_of_transformers(open_clip_folder: Path, tmp_path: Path) -> None:
    """That tokenizer cuts and pads by changing its state, so threads must take turns."""
    folder = tmp_path / "m"
    shutil.copytree(open_clip_folder, folder)
    openai_tokenizer().hf.save_pretrained(folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "read from the folder itself"
    path.write_text(json.dumps(config))
    scorer = make(f"open_clip:{folder}")
    library = open_clip.get_tokenizer(f"local-dir:{folder}")
    captions = ["a cat", "many words " * 60, "two dogs in the snow"] * 60
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(scorer.loaded.tokens, captions))
    assert [ids for ids, _ in tokens] == library(captions).tolist()
    assert [truncated for _, truncated in tokens] == [False, True, False] * 60
