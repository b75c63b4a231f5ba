"""Every tower, projector and body by configuration: forward, a training step, saved in the published layout, loaded."""

from __future__ import annotations

import json
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers import picture
from tests.models import small
from vlfilter.data.samples import ImageText
from vlfilter.models.bodies import PUBLISHED
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.preprocess import ImageSettings, default_settings
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.unifilter import UniFilter
from vlfilter.training.classifier import LevelVlm

TOWERS = ("siglip", "siglip2", "clip")
PROJECTORS = {
    "linear": ProjectorConfig("linear"),
    "mlp2x_gelu": ProjectorConfig("mlp2x_gelu"),
    "aapool_mlp-1": ProjectorConfig("aapool_mlp", 1),
    "aapool_mlp-16": ProjectorConfig("aapool_mlp", 16),  # 6 × 6 patches to 4 × 4: windows overlap
    "aapool_mlp-36": ProjectorConfig("aapool_mlp", 36),
}
AXES = {"tower": TOWERS, "projector": tuple(PROJECTORS), "body": tuple(PUBLISHED), "labels": (1, 4)}
Case = tuple[str, str, str, int]


def _covering() -> list[Case]:
    """Few cases in which every two values of different axes meet: the case that adds most pairs, again and again."""

    def pairs(case: tuple[object, ...]) -> set[tuple[tuple[int, object], ...]]:
        return set(combinations(enumerate(case), 2))

    everything = list(product(*AXES.values()))
    missing = set().union(*map(pairs, everything))
    chosen = []
    while missing:
        best = max(everything, key=lambda case: len(pairs(case) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen  # type: ignore[return-value]


def build(tower: str, projector: str, body: str, labels: int) -> tuple[VisionLanguageModel, ImageSettings]:
    kind = "clip" if tower == "clip" else "siglip"
    # SigLIP 2 of fixed resolution is SigLIP's network under another name, whose processor resamples linearly
    named = {"mm_vision_tower": "google/siglip2-so400m-patch14-384"} if tower == "siglip2" else {}
    images = default_settings(f"{kind}_vision_model", small.PIXELS)
    if named:
        images = ImageSettings(images.height, images.width, resample=2)
    config = VlmConfig(
        small.BODIES[body](), small.TOWERS[kind](), PROJECTORS[projector], select_layer=-2 if tower == "clip" else -1,
        num_labels=labels, max_length=512, published=named,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return VisionLanguageModel(config), images


def batch() -> tuple[list[Tensor], list[Tensor]]:
    made = [small.sample(seed, images) for seed, images in ((1, 1), (2, 3), (3, 2), (4, 1))]
    return [ids for ids, _ in made], [pixels for _, pixels in made]


@pytest.mark.parametrize("case", _covering(), ids=str)
def test_a_combination_trains_saves_loads_and_scores_the_same(case: Case, tmp_path: Path) -> None:
    model, images = build(*case)
    tower_before = {name: tensor.clone() for name, tensor in model.vision.state_dict().items()}
    ids, pixels = batch()
    labels = torch.tensor([0, 1, 2, 3])
    trained = LevelVlm(model).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-2)
    before = trained(ids, pixels, labels)
    assert before["logits"].shape == (4, case[3])
    before["loss"].backward()
    for part in (model.projector, model.body, model.score):
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in part.parameters()), part
    optimizer.step()
    model.eval()
    with torch.no_grad():
        after = trained(ids, pixels, labels)
    assert after["loss"] < before["loss"]
    assert all(torch.equal(tensor, tower_before[name]) for name, tensor in model.vision.state_dict().items())

    folder = save_vlm(tmp_path / "model", model, small.tokenizer(), images)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [PUBLISHED[case[2]][0]]
    loaded = load_vlm(str(folder), vision="embedded")
    assert loaded.images == images
    with torch.no_grad():
        again = LevelVlm(loaded.model)(ids, pixels, labels)
    assert torch.equal(again["logits"], after["logits"])

    scorer = UniFilter(ScorerSettings(str(folder), device="cpu"))
    scorer.load()
    prepared = scorer.prepare(ImageText(picture(3), "a red bus"))
    columns = scorer.score([prepared])
    assert columns["n_tokens"] == [prepared.tokens]
    assert torch.isfinite(torch.tensor(columns["quality_score"])).all()


def test_the_cases_cover_all_pairs() -> None:
    cases = _covering()
    assert len(cases) < 40
    for (i, first), (j, second) in combinations(enumerate(AXES.values()), 2):
        assert {(case[i], case[j]) for case in cases} == set(product(first, second))
