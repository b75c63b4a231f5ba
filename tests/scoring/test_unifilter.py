"""The UniFilter scorer: what it reads, what it flags, what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.helpers import picture
from tests.models import small
from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.preprocess import default_settings, pad_to_square
from vlfilter.scoring.base import Prepared, Scorer, ScorerSettings
from vlfilter.scoring.unifilter import UniFilter, quality

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"
BOS, EOS, IMAGE = 413, 2, -200


def make(model: Path = FIXTURE, compat: str | None = None, **options: Any) -> UniFilter:
    scorer = UniFilter(ScorerSettings(str(model), device="cpu", compat=compat, options=options))
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def default() -> UniFilter:
    return make()


@pytest.fixture(scope="module")
def original() -> UniFilter:
    return make(compat="original")


def document(*slots: str | Image.Image | Exception | None) -> Interleaved:
    """Texts and images in order; an exception stands for a broken image slot, None for nothing at all."""
    return Interleaved(
        tuple(slot if isinstance(slot, str) else None for slot in slots),
        tuple(slot if isinstance(slot, Image.Image) else None for slot in slots),
        tuple(str(slot) if isinstance(slot, Exception) else None for slot in slots),
    )


def ids(prepared: Prepared) -> list[int]:
    found: list[int] = prepared.payload.ids.tolist()
    return found


def one(scorer: UniFilter, content: ImageText | Interleaved) -> dict[str, Any]:
    return {name: values[0] for name, values in scorer.score([scorer.prepare(content)]).items()}


def text_of(scorer: UniFilter, prepared: Prepared) -> str:
    """The string that was tokenised, placeholders written out."""
    decode = scorer.loaded.tokenizer.hf.decode
    pieces: list[str] = []
    run: list[int] = []
    for token in [*ids(prepared)[1:-1], IMAGE]:
        if token == IMAGE:
            pieces.append(decode(run))
            run = []
        else:
            run.append(token)
    return "<image>".join(pieces)


def test_it_is_a_scorer(default: UniFilter) -> None:
    assert isinstance(default, Scorer)
    row = one(default, ImageText(picture(), "a cat"))
    assert set(row) == set(default.columns.names)


@pytest.mark.parametrize("name", ["default", "original"])
def test_caption_ids(name: str, request: pytest.FixtureRequest) -> None:
    scorer: UniFilter = request.getfixturevalue(name)
    text = scorer.loaded.tokenizer.ids("\nsee image here")
    assert ids(scorer.prepare(ImageText(picture(), "see <image> here"))) == [BOS, IMAGE, *text, EOS]


def test_original_cuts_after_eos(original: UniFilter) -> None:
    caption = "a woman with an umbrella " * 20
    whole = [BOS, IMAGE, *original.loaded.tokenizer.ids("\n" + caption), EOS]
    prepared = original.prepare(ImageText(picture(), caption))
    assert ids(prepared) == whole[:75]
    assert prepared.payload.truncated
    assert prepared.tokens == 74 + 4


def test_default_keeps_eos_and_flags_the_cut() -> None:
    scorer = make(caption_max_tokens=10)
    tokens = scorer.loaded.tokenizer.ids("\n" + "a woman with an umbrella " * 20)
    prepared = scorer.prepare(ImageText(picture(), "a woman with an umbrella " * 20))
    assert ids(prepared) == [BOS, IMAGE, *tokens[:10], EOS]
    assert one(scorer, ImageText(picture(), "a woman with an umbrella " * 20))["truncated"] is True
    assert one(scorer, ImageText(picture(), "a cat"))["truncated"] is False


def test_control_tokens_in_captions(default: UniFilter, original: UniFilter) -> None:
    """The published scripts let a caption end itself: an eos in its text is an eos, and none is added after it."""
    pair = ImageText(picture(), "a cat<|im_end|>")
    assert ids(default.prepare(pair)).count(EOS) == 1
    assert ids(default.prepare(pair))[-2] != EOS
    assert len(ids(default.prepare(pair))) > len(ids(original.prepare(pair)))
    assert ids(original.prepare(pair)).count(EOS) == 1
    assert ids(original.prepare(ImageText(picture(), "a <|im_end|> cat"))).count(EOS) == 2


def test_a_caption_of_100_000_characters(default: UniFilter) -> None:
    row = one(default, ImageText(picture(), "a word and " * 9_000))
    assert (row["truncated"], row["n_tokens"]) == (True, 512 + 3 - 1 + 4)


IMAGES = [picture(seed, (30 + seed, 40)) for seed in range(12)]
BROKEN = ValueError("not decodable")


@pytest.mark.parametrize("name", ["default", "original"])
@pytest.mark.parametrize(
    ("slots", "text", "images", "dropped"),
    [
        (
            (IMAGES[0], "Hello", IMAGES[1], "World <image> x"),
            "<image>\n\nHello\n\n<image>\n\nWorld <image-placeholder> x",
            2,
            0,
        ),
        ((BROKEN, "A", IMAGES[0]), "A\n\n<image>", 1, 1),
        ((None, "A", None, IMAGES[0]), "A\n\n<image>", 1, 0),
        ((IMAGES[0], "", IMAGES[1]), "<image>\n\n\n\n<image>", 2, 0),
        ((IMAGES[0], IMAGES[1], BROKEN), "<image>\n\n<image>", 2, 1),
    ],
)
def test_documents(name: str, slots: Any, text: str, images: int, dropped: int, request: pytest.FixtureRequest) -> None:
    scorer: UniFilter = request.getfixturevalue(name)
    prepared = scorer.prepare(document(*slots))
    assert text_of(scorer, prepared) == text
    assert (ids(prepared)[0], ids(prepared)[-1]) == (BOS, EOS)
    row = one(scorer, document(*slots))
    assert (row["n_images"], row["n_dropped_images"]) == (images, dropped)
    assert row["n_tokens"] == prepared.tokens == len(ids(prepared)) + 3 * images


def test_one_pixel_images(default: UniFilter, original: UniFilter) -> None:
    sliver = document(picture(0, (1, 40)), "A", IMAGES[1])
    assert text_of(original, original.prepare(sliver)) == "A\n\n<image>"
    assert text_of(default, default.prepare(sliver)) == "<image>\n\nA\n\n<image>"


@pytest.mark.parametrize("name", ["default", "original"])
@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (("A", "B"), "the document has none"),
        ((BROKEN, "A", BROKEN), r"all 2 image slots are unusable \(not decodable\)"),
    ],
)
def test_documents_without_usable_images(name: str, slots: Any, message: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        request.getfixturevalue(name).prepare(document(*slots))
    assert caught.value.status == Status.MISSING_IMAGE


def test_limits_of_the_original(original: UniFilter) -> None:
    assert one(original, document(*IMAGES[:10], "end"))["n_images"] == 10
    with pytest.raises(SampleError, match="11 images") as caught:
        original.prepare(document(*IMAGES[:11], "end"))
    assert caught.value.status == Status.TOO_LARGE
    tokenizer = original.loaded.tokenizer
    fitting = 6000 - 3 - len(tokenizer.ids("\n\n"))
    word = tokenizer.ids("\n\n" + "z" * 50)
    assert len(word) == len(tokenizer.ids("\n\n")) + 50, "each z is one token"
    assert len(ids(original.prepare(document(IMAGES[0], "z" * fitting)))) == 6000
    with pytest.raises(SampleError, match="6000 ids") as caught:
        original.prepare(document(IMAGES[0], "z" * (fitting + 1)))
    assert caught.value.status == Status.TOO_LARGE


def test_default_keeps_the_first_images() -> None:
    scorer = make(max_images=2)
    row = one(scorer, document(IMAGES[0], "A", IMAGES[1], "B", IMAGES[2], "C", BROKEN))
    assert (row["n_images"], row["n_dropped_images"], row["truncated"]) == (2, 2, False)
    kept = document(IMAGES[0], "A", IMAGES[1], "B", "C")
    assert row["quality_score"] == pytest.approx(one(scorer, kept)["quality_score"], abs=1e-6)


def test_default_cuts_long_documents_and_keeps_eos() -> None:
    scorer = make(document_max_tokens=30)
    prepared = scorer.prepare(document(IMAGES[0], "z" * 100, IMAGES[1]))
    assert prepared.tokens == 30
    assert ids(prepared)[-1] == EOS
    row = one(scorer, document(IMAGES[0], "z" * 100, IMAGES[1]))
    assert (row["truncated"], row["n_images"], row["n_dropped_images"]) == (True, 1, 1)
    assert one(scorer, document("zz", IMAGES[0], "zzzz"))["truncated"] is False
    with pytest.raises(SampleError, match="first image does not fit") as caught:
        scorer.prepare(document("z" * 100, IMAGES[0]))
    assert caught.value.status == Status.TOO_LARGE


def test_a_document_beyond_the_trained_length_is_cut_there(default: UniFilter) -> None:
    row = one(default, document(IMAGES[0], "z" * 9_000))
    assert (row["n_tokens"], row["truncated"]) == (4096, True)


def test_padding_mode_is_padding(default: UniFilter) -> None:
    tall = picture(3, (40, 120))
    padded = one(make(image_mode="pad"), ImageText(tall, "a cat"))["quality_score"]
    by_hand = one(default, ImageText(pad_to_square(tall, (0.5, 0.5, 0.5)), "a cat"))["quality_score"]
    assert padded == pytest.approx(by_hand, abs=1e-6)
    assert abs(padded - one(default, ImageText(tall, "a cat"))["quality_score"]) > 1e-4


def test_threads_prepare_what_one_thread_prepares(default: UniFilter) -> None:
    pairs = [ImageText(IMAGES[n % 12], f"picture {n} of many " * (n % 5)) for n in range(100)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(default.prepare, pairs))
    assert [ids(prepared) for prepared in threaded] == [ids(default.prepare(pair)) for pair in pairs]


@pytest.mark.parametrize(
    ("logit", "level"),
    [(0.5, 0), (1.5, 2), (2.5, 2), (2.4999, 2), (3.7, 3), (-0.4, 0), (-9.0, 0)],
)
def test_levels_round_as_published(logit: float, level: int) -> None:
    scores, classes = quality(torch.tensor([[logit]]), original=False)
    assert (float(scores[0]), int(classes[0])) == (pytest.approx(logit), level)


def test_scores_of_classes() -> None:
    two = torch.tensor([[1.0, 2.0]])
    assert float(quality(two, original=False)[0]) == pytest.approx(float(two.softmax(-1)[0, 1]))
    four = torch.tensor([[0.1, 3.0, 0.2, 1.0]])
    p = four.softmax(-1)[0]
    scores, classes = quality(four, original=False)
    assert float(scores) == pytest.approx(float(p[1] + 2 * p[2] + 3 * p[3]))
    assert int(classes) == 1
    assert float(quality(four, original=True)[0]) == pytest.approx(float(p[1]))


def _saved(folder: Path, body: str = "qwen2", **options: Any) -> Path:
    model = small.build(body, **options)
    return save_vlm(folder, model, small.tokenizer(), default_settings("siglip_vision_model", small.PIXELS))


def test_a_classifier_of_four_levels(tmp_path: Path) -> None:
    row = one(make(_saved(tmp_path / "m", "gemma2", num_labels=4)), ImageText(picture(), "a cat"))
    assert 0 <= row["quality_score"] <= 3
    assert row["quality_class"] in range(4)


def test_a_score_that_is_no_number_fails_the_sample(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    broken = state | {"score.weight": torch.full_like(state["score.weight"], float("nan"))}
    save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SampleError, match="not a number") as caught:
        one(make(folder), ImageText(picture(), "a cat"))
    assert caught.value.status == Status.FAILED


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(default: UniFilter, dtype: str) -> None:
    settings = ScorerSettings(str(FIXTURE), device="cpu", dtype=dtype)
    scorer = UniFilter(settings)
    scorer.load()
    pair = ImageText(picture(), "a cat on a chair")
    assert one(scorer, pair)["quality_score"] == pytest.approx(one(default, pair)["quality_score"], abs=0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ScorerSettings("/nowhere/model"), "does not exist"),
        (ScorerSettings(str(FIXTURE), compat="orignal"), "orignal"),
        (ScorerSettings(str(FIXTURE), dtype="int8"), "int8"),
        (ScorerSettings(str(FIXTURE), options={"image_mode": "crop"}), "crop"),
        (ScorerSettings(str(FIXTURE), options={"vision": "none"}), "vision 'none'"),
        (ScorerSettings(str(FIXTURE), options={"max_image": 3}), "no option max_image.*max_images"),
        (ScorerSettings(str(FIXTURE), options={"max_images": 0}), "above 0"),
        (ScorerSettings(str(FIXTURE), options={"max_images": "many"}), "whole number"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: ScorerSettings, message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        UniFilter(settings)


def test_a_folder_without_weights_is_refused_at_once(tmp_path: Path) -> None:
    shutil.copytree(FIXTURE, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(VlfilterError, match="has no weights"):
        UniFilter(ScorerSettings(str(tmp_path / "m")))


def test_options_may_come_as_text(tmp_path: Path) -> None:
    assert UniFilter(ScorerSettings(str(FIXTURE), options={"max_images": "3"})).options.max_images == 3


def test_the_fingerprint_tells_what_changes_a_score(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(FIXTURE, folder)

    def fingerprint(**changes: Any) -> str:
        return digest(UniFilter(ScorerSettings(str(folder), **changes)).fingerprint())

    prints = [
        fingerprint(),
        fingerprint(compat="original"),
        fingerprint(dtype="float16"),
        fingerprint(options={"image_mode": "pad"}),
        fingerprint(options={"max_images": 4}),
    ]
    tower = folder / "siglip-tiny" / "preprocessor_config.json"
    tower.write_text(tower.read_text().replace('"resample": 3', '"resample": 2'))
    prints.append(fingerprint())
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    prints.append(fingerprint())
    assert len(set(prints)) == len(prints)
    assert fingerprint() == fingerprint(device="cuda:3"), "where it runs does not change what it is"
    json.dumps(UniFilter(ScorerSettings(str(folder))).fingerprint())


def test_checking_and_fingerprinting_need_no_torch() -> None:
    code = (
        "import sys\nfrom vlfilter.scoring.base import make_scorer, ScorerSettings\n"
        f"make_scorer('unifilter', ScorerSettings({str(FIXTURE)!r})).fingerprint()\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_not_loaded_is_told() -> None:
    with pytest.raises(VlfilterError, match="not loaded"):
        UniFilter(ScorerSettings(str(FIXTURE))).prepare(ImageText(picture(), "a cat"))


def test_the_original_cuts_the_expanded_sequence(tmp_path: Path) -> None:
    """Text and images beyond `tokenizer_model_max_length` are cut with their eos, and the cut end is scored."""
    folder = tmp_path / "m"
    shutil.copytree(FIXTURE, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tokenizer_model_max_length": 20}))
    long, longer = (ImageText(picture(), "z" * count) for count in (30, 40))
    original, default = make(folder, compat="original"), make(folder)
    assert one(original, long)["quality_score"] == pytest.approx(one(original, longer)["quality_score"], abs=1e-6)
    assert abs(one(default, long)["quality_score"] - one(default, longer)["quality_score"]) > 1e-4


def test_the_head_is_float32_unless_the_original_is_wanted() -> None:
    dtypes = {}
    for compat in (None, "original"):
        scorer = UniFilter(ScorerSettings(str(FIXTURE), device="cpu", dtype="bfloat16", compat=compat))
        scorer.load()
        dtypes[compat] = scorer.loaded.model.score.weight.dtype
    assert dtypes == {None: torch.float32, "original": torch.bfloat16}


def test_the_original_never_reads_the_embedded_tower(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "m")
    assert make(folder).fingerprint()["vision"] == "embedded"
    with pytest.raises(VlfilterError, match=r"no vision tower.*choose vision=embedded"):
        UniFilter(ScorerSettings(str(folder), compat="original"))
    make(folder, compat="original", vision="embedded")


def test_a_prepared_sample_lets_go_of_its_decoded_image(default: UniFilter) -> None:
    image = picture(0, (64, 48))
    waiting = weakref.ref(image)
    prepared = default.prepare(ImageText(image, "a caption"))
    del image
    assert waiting() is None
    assert len(prepared.payload.pixels) == 1
