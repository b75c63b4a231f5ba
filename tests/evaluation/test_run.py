"""Every question gets a record; a killed run goes on; what may change is tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.evaluation.small_model import question, save_images, save_model
from tests.helpers import jpeg
from vlfilter.data.samples import SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.choices import Choosing
from vlfilter.evaluation.items import Item
from vlfilter.evaluation.model import EvaluatedModel, ModelSettings
from vlfilter.evaluation.run import RunSettings, answer_items
from vlfilter.scoring.base import Prepared

ROOT = Path(__file__).parents[2]
COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    save_model(root / "model")
    save_images(root / "images", COUNT)
    return root


@dataclass
class Widths:
    """Answers with the image's width; fails on keys that it is told."""

    version: int = 1
    fails: tuple[str, ...] = ()
    name = "widths"
    columns = pa.schema([("answer", pa.string())])
    loads: int = 0
    asked: list[str] = field(default_factory=list)

    def fingerprint(self) -> dict[str, Any]:
        return {"version": self.version}

    def load(self) -> None:
        self.loads += 1

    def prepare(self, item: Item, image: Image.Image) -> Prepared:
        if "unfit" in item.message:
            raise SampleError(Status.UNSUPPORTED, "it is unfit")
        return Prepared(10, (item.key, image.width))

    def score(self, batch: Sequence[Prepared]) -> Mapping[str, Sequence[Any]]:
        self.asked += [sample.payload[0] for sample in batch]
        if any(sample.payload[0] in self.fails for sample in batch):
            raise ValueError("bad luck")
        return {"answer": [str(sample.payload[1]) for sample in batch]}


def settings(folder: Path, **changes: Any) -> RunSettings:
    return replace(RunSettings(str(folder / "images"), shard=4, batch_tokens=400), **changes)


def items(count: int = COUNT) -> list[Item]:
    return [question(i) for i in range(count)]


def test_every_question_has_a_record_in_its_place(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "torn.jpg").write_bytes(jpeg(1)[:200])
    asked = items()
    asked[1] = replace(asked[1], images=("torn.jpg",))
    asked[3] = replace(asked[3], images=("nowhere.jpg",))
    asked[5] = replace(asked[5], images=("nowhere.jpg", "000000000002.jpg"))
    asked[6] = replace(asked[6], message="unfit")
    asked[8] = replace(asked[8], image=jpeg(3, (77, 20)), images=())
    records = answer_items(asked, Widths(fails=("q9",)), str(tmp_path / "out"), settings(folder))
    assert [record["key"] for record in records] == [item.key for item in asked]
    assert [record["answer"] for record in records] == [
        "30", None, "32", None, "34", "32", None, "37", "77", None
    ]  # fmt: skip
    statuses = {record["key"]: (record["status"], record["reason"]) for record in records if record["status"] != "ok"}
    assert statuses["q1"][0] == "corrupt_image"
    assert statuses["q3"] == ("missing_image", "there is no image nowhere.jpg")
    assert statuses["q6"] == ("unsupported", "it is unfit")
    assert statuses["q9"] == ("failed", "widths failed on it: ValueError: bad luck")
    tables = sorted((tmp_path / "out").glob("*.parquet"))
    assert [pq.read_metadata(table).num_rows for table in tables] == [4, 4, 2]


def test_finished_shards_are_not_answered_again(folder: Path, tmp_path: Path) -> None:
    first, again, other = Widths(), Widths(), Widths(version=2)
    out = str(tmp_path / "out")
    known = answer_items(items(), first, out, settings(folder))
    assert answer_items(items(), again, out, settings(folder)) == known
    assert (again.asked, again.loads) == ([], 0)
    (tmp_path / "out" / "shard-00001.parquet").write_bytes(b"torn")
    assert answer_items(items(), again, out, settings(folder)) == known
    assert sorted(again.asked) == ["q4", "q5", "q6", "q7"]
    answer_items(items(), other, out, settings(folder))
    assert len(other.asked) == COUNT
    changed = [*items()[:-1], replace(question(9), message="another")]
    after = Widths(version=2)
    answer_items(changed, after, out, settings(folder))
    assert sorted(after.asked) == ["q8", "q9"]


def test_an_image_that_has_come_is_tried_again_alone(folder: Path, tmp_path: Path) -> None:
    asked = items(4)
    asked[2] = replace(asked[2], images=("late.jpg",))
    out, first, later = str(tmp_path / "out"), Widths(), Widths()
    assert answer_items(asked, first, out, settings(folder))[2]["status"] == "missing_image"
    assert answer_items(asked, later, out, settings(folder))[2]["status"] == "missing_image"
    assert later.loads == 0
    (folder / "images" / "late.jpg").write_bytes(jpeg(0, (55, 20)))
    records = answer_items(asked, later, out, settings(folder))
    assert later.asked == ["q2"]
    assert [record["answer"] for record in records] == ["30", "31", "55", "33"]


def test_a_model_that_cannot_be_loaded_is_no_questions_fault(folder: Path, tmp_path: Path) -> None:
    class Broken(Widths):
        def load(self) -> None:
            raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        answer_items(items(), Broken(), str(tmp_path / "out"), settings(folder))
    assert not list(tmp_path.rglob("*.parquet"))


def test_keys_and_settings_are_checked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="two questions have the key 'q0'"):
        answer_items([question(0), question(0)], Widths(), str(tmp_path), settings(folder))
    with pytest.raises(VlfilterError, match="batch tokens is 0"):
        RunSettings("", batch_tokens=0)


def test_any_budget_and_shard_give_the_same_answers(folder: Path, tmp_path: Path) -> None:
    found = []
    for number, (shard, tokens) in enumerate(((4, 8192), (10, 1), (3, 900))):
        answerer = Choosing(EvaluatedModel(ModelSettings(str(folder / "model"), "data_engine", device="cpu")))
        run = settings(folder, shard=shard, batch_tokens=tokens)
        found.append(answer_items(items(), answerer, str(tmp_path / str(number)), run))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert one["nll"] == pytest.approx(two["nll"], abs=1e-5)
            assert {**one, "nll": None} == {**two, "nll": None}


def test_a_killed_run_goes_on_and_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
import pyarrow as pa
from vlfilter.evaluation import run, shards
from vlfilter.evaluation.items import Item
from vlfilter.scoring.base import Prepared
write, count = shards._write, []
def dying(*args):
    if os.environ.get("KILL") and len(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    count.append(1)
    write(*args)
shards._write = dying
class Widths:
    name, columns = "widths", pa.schema([("answer", pa.string())])
    def fingerprint(self): return {{}}
    def load(self): pass
    def prepare(self, item, image): return Prepared(10, image.width)
    def score(self, batch): return {{"answer": [str(sample.payload) for sample in batch]}}
items = [Item(f"q{{i}}", "", images=(f"{{i:012d}}.jpg",)) for i in range({COUNT})]
run.answer_items(items, Widths(), os.environ["OUT"], run.RunSettings({str(folder / "images")!r}, shard=4))
print("written", len(count))
"""

    def start(out: Path, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OUT": str(out), **more}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )

    killed = start(tmp_path / "killed", KILL="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "killed").glob("shard-*.parquet"))) == 2
    resumed, whole = start(tmp_path / "killed"), start(tmp_path / "whole")
    assert resumed.stdout == "written 1\n", resumed.stderr
    assert whole.stdout == "written 3\n"
    for table in sorted((tmp_path / "whole").glob("*.parquet")):
        assert (tmp_path / "killed" / table.name).read_bytes() == table.read_bytes()
