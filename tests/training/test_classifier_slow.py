"""Stage 2 in processes of its own: it is killed and goes on, and spreading it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import picture
from tests.training import levels
from tests.training.test_finetune_slow import curve, killing, weights
from vlfilter.data.samples import ImageText
from vlfilter.errors import VlfilterError
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.unifilter import UniFilter
from vlfilter.training.launch import finetune
from vlfilter.training.run_folder import RunFolder, last_complete
from vlfilter.training.settings import TrainSettings, train_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def settings(folder: Path, name: str, **own: Any) -> TrainSettings:
    """18 steps in three epochs, whose ends are steps 6, 12 and 18; checkpoints at every fourth step too."""
    if not (folder / "start").exists():
        levels.data(folder, levels.rows(48), levels.rows(17, 100))
        levels.start(folder / "start")
    given = {"data": str(folder / "data.json"), "validation": str(folder / "validation.json"), "save_steps": 4,
             "images": str(folder / "images"), "model": str(folder / "start"), "save_total_limit": 3}  # fmt: skip
    return train_settings({**given, "output": str(folder / name), **own}, "unifilter_tiny")


@pytest.mark.parametrize(("zero", "processes"), [("none", 1), ("3", 2)])
def test_a_killed_stage_2_goes_on_to_the_same_losses_and_model(tmp_path: Path, zero: str, processes: int) -> None:
    how = {"zero": zero, "processes": processes}
    whole, killed = settings(tmp_path, "whole", **how), settings(tmp_path, "killed", **how)
    first = finetune(whole)
    # the loss of an epoch's last step is told, its validation is still to come
    with killing(rank=processes - 1, step=12), pytest.raises(VlfilterError, match="Start it again to go on"):
        finetune(killed)
    found = last_complete(tmp_path / "killed" / "checkpoints")
    assert found is not None
    assert found[0] == 8
    second = finetune(killed)
    assert second.resumed_from == 8
    assert curve(killed) == curve(whole)
    rows = curve(killed)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 19))
    assert [row["step"] for row in rows if "validation" in row] == [6, 12, 18]
    ours, theirs = weights(second.model), weights(first.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_best_epoch_is_kept_and_scores_as_it_was_validated(tmp_path: Path) -> None:
    """The spread over two processes gives the same validation as one; what is kept gives it again in the scorer."""
    told = [settings(tmp_path, "one"), settings(tmp_path, "two", zero="2", processes=2)]
    runs = [(finetune(one), curve(one)) for one in told]
    validated = [[row for row in rows if "validation" in row] for _, rows in runs]
    for one, other in zip(*validated, strict=True):
        assert one["validation"]["confusion"] == other["validation"]["confusion"]
        assert one["validation"]["spearman"] == pytest.approx(other["validation"]["spearman"], abs=1e-3)
    accuracies = [row["validation"]["accuracy"] for row in validated[0]]
    kept = [row for row in validated[0] if row["kept"]][-1]
    assert kept["validation"]["accuracy"] == max(accuracies)
    assert not RunFolder(Path(told[0].output)).best.exists()

    scorer = UniFilter(ScorerSettings(str(runs[0][0].model), device="cpu"))
    scorer.load()
    right = 0
    rows = [row for row in levels.rows(17, 100) if isinstance(row["image"], str)]
    from vlfilter.data.images import decode_image

    for row in rows:
        image = decode_image((tmp_path / "images" / row["image"]).read_bytes())
        caption = row["text"].removeprefix("<image>\n")
        columns = scorer.score([scorer.prepare(ImageText(image, caption))])
        right += columns["quality_class"][0] == row["label"]
    assert right / len(rows) == kept["validation"]["kinds"]["caption"]["accuracy"]
    tall = ImageText(picture(5, (20, 60)), "a picture")
    follows = scorer.score([scorer.prepare(tall)])["quality_score"]
    for mode, same in (("pad", True), ("squash", False)):
        other = UniFilter(ScorerSettings(str(runs[0][0].model), device="cpu", options={"image_mode": mode}))
        other.load()
        assert (other.score([other.prepare(tall)])["quality_score"] == follows) is same
