"""Code that lies in data or beside weights does not run: pickles in tars, arrays, checkpoints; modules in folders."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.test_reshard import write_npy
from tests.helpers import make_tar, pair, uid_of
from tests.reward_models import fixture_folder
from tests.security.models import micro_clip
from tests.toy import NAME
from vlfilter.data.features import open_features
from vlfilter.data.reshard import reshard
from vlfilter.data.schemas.plain_pickle import read_plain_pickle
from vlfilter.data.shards import list_shards
from vlfilter.data.subset import read_subset
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.sampling import SampleSettings, sample_pairs
from vlfilter.models.weights import open_weights
from vlfilter.scoring.base import ScorerSettings, make_scorer
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.selection.diverse_state import SUFFIX, read_state

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
MARKER = "VLFILTER_PLANTED"


class Planted:
    """Makes the marker's folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (os.environ[MARKER], 0o777, True)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What exists once planted code has run; that it would is tried first."""
    path = tmp_path / "planted code has run"
    monkeypatch.setenv(MARKER, str(path))
    pickle.loads(pickle.dumps(Planted()))
    assert path.exists()
    path.rmdir()
    return path


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def array(zipped: bool = False, **more: np.ndarray) -> bytes:
    """An array of objects, as `.npy` or, with others beside it, as `.npz`."""
    file = io.BytesIO()
    objects = np.array([Planted()], dtype=object)
    if zipped:
        np.savez(file, **{"features": objects, "order": objects, "values": objects, **more})
    else:
        np.save(file, objects, allow_pickle=True)
    return file.getvalue()


def members() -> dict[str, bytes]:
    """Everything of that kind that webdataset's decoder would open."""
    plain = pickle.dumps(Planted())
    names = {"pyd": plain, "pkl": plain, "pickle": plain, "cls": plain, "ten": plain}
    return names | {"pth": saved(Planted()), "pt": saved(Planted()), "npy": array(), "npz": array(zipped=True)}


def test_pickles_in_a_tar_are_bytes_to_every_step(marker: Path, tmp_path: Path) -> None:
    make_tar(tmp_path / "data" / "0.tar", [("a", pair("a") | members()), ("b", members()), ("c", pair("c"))])
    (tmp_path / "toy.txt").write_text("1")
    params = ScoreParams(
        shards=str(tmp_path / "data"), output=str(tmp_path / "out"), scorer=[NAME],
        model={NAME: str(tmp_path / "toy.txt")},
    )  # fmt: skip
    shards = list_shards(params.shards)
    [result] = score_shard(shards[0], load_runners(params, ["toy"]), params.output, EngineSettings())
    assert pq.read_table(result.url)["status"].to_pylist() == ["ok", "missing_image", "ok"]
    kept = write_npy(tmp_path / "kept.npy", [uid_of("a"), uid_of("c")])
    assert reshard(shards, kept, str(tmp_path / "new")).written == 2
    pairs = sample_pairs(
        params.shards, str(tmp_path / "images"), str(tmp_path / "pairs.json"), str(tmp_path / "captions.parquet"),
        SampleSettings(pairs=2, clusters=1),
    )  # fmt: skip
    assert pairs["pairs"] == 2
    assert not marker.exists()


def test_arrays_of_objects_are_refused(marker: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.npy").write_bytes(array())
    with pytest.raises(VlfilterError, match=r"kept\.npy"):
        read_subset(str(tmp_path / "kept.npy"))
    (tmp_path / "features.npz").write_bytes(array(zipped=True))
    with pytest.raises(VlfilterError, match=r"features\.npz"):
        open_features(str(tmp_path / "features.npz"))
    made_from = np.array(json.dumps("same"))
    (tmp_path / f"picks{SUFFIX}").write_bytes(array(zipped=True, made_from=made_from))
    assert read_state(str(tmp_path / "picks"), "same") is None
    assert not marker.exists()


@pytest.mark.parametrize("name", ["mm_projector.bin", "pytorch_model.bin", "model.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_refused(marker: Path, tmp_path: Path, name: str, zipped: bool) -> None:
    (tmp_path / name).write_bytes(saved({"a": Planted()}) if zipped else pickle.dumps({"a": Planted()}))
    with pytest.raises(VlfilterError, match="without running pickled code"):
        open_weights([tmp_path / name])
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_annotations_build_plain_values_only(marker: Path, tmp_path: Path, protocol: int) -> None:
    (tmp_path / "refs.p").write_bytes(pickle.dumps([{"a": Planted()}], protocol))
    with pytest.raises(VlfilterError, match="may run code"):
        read_plain_pickle(str(tmp_path / "refs.p"))
    assert not marker.exists()


CODE = f"import os\nos.makedirs(os.environ[{MARKER!r}], exist_ok=True)\nclass Planted: pass\n"


def plant(folder: Path) -> Path:
    """A module in the folder, named by every configuration as the class to be used, and pickles beside the weights."""
    for name in ("modeling_planted.py", "tokenization_planted.py", "conftest.py", "sitecustomize.py", "__init__.py"):
        (folder / name).write_text(CODE)
    classes = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoImageProcessor", "AutoProcessor")
    auto = dict.fromkeys(classes, "modeling_planted.Planted") | {"AutoTokenizer": ["tokenization_planted.Planted"] * 2}
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text())
        if isinstance(told, dict) and "config" in path.name:
            path.write_text(json.dumps(told | {"auto_map": auto, "trust_remote_code": True}))
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.pkl"):
        (folder / name).write_bytes(saved(Planted()))
    return folder


@pytest.mark.parametrize("name", ["unifilter", "mlm_filter", "image_reward", "clip_score"])
def test_code_beside_weights_does_not_run(marker: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    if name == "image_reward":
        fixture_folder(folder)
    elif name == "clip_score":
        micro_clip(folder)
    else:
        shutil.copytree(FIXTURES / name, folder)
    scorer = make_scorer(name, ScorerSettings(str(plant(folder)), device="cpu"))
    scorer.fingerprint()
    scorer.load()
    assert not marker.exists()


def test_the_planted_code_is_such_as_would_run(marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers does with the same folder when it is told to trust it."""
    from transformers import AutoConfig

    shutil.copytree(FIXTURES / "unifilter", tmp_path / "model")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with contextlib.suppress(Exception):  # the planted class is no configuration
        AutoConfig.from_pretrained(str(plant(tmp_path / "model")), trust_remote_code=True)
    assert marker.exists()


def test_open_clip_reads_tensors_only(marker: Path, tmp_path: Path) -> None:
    import open_clip

    config = {
        "model_cfg": {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    state = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).state_dict()
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(saved(state | {"logit_scale": Planted()}))
    scorer = make_scorer("clip_score", ScorerSettings(f"open_clip:{tmp_path}", device="cpu"))
    with pytest.raises(VlfilterError, match="open_clip cannot load"):
        scorer.load()
    assert not marker.exists()
