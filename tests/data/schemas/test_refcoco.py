"""RefCOCO's files: references with boxes, and pickles that are more than data."""

from __future__ import annotations

import os
import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest

from tests.methods.minigpt_v2 import world
from vlfilter.data.schemas import SCHEMAS
from vlfilter.data.schemas.base import How, LeftOutError
from vlfilter.data.schemas.plain_pickle import read_plain_pickle
from vlfilter.errors import VlfilterError

HOW = How("fixed", "42 refcoco 0")


def files(folder: Path, refs: Any, instances: Any = None, protocol: int = 2) -> list[str]:
    world.write(folder / "instances.json", world.instances() if instances is None else instances)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=protocol))
    return [str(folder / "instances.json"), str(folder / "refs(unc).p")]


@pytest.mark.parametrize("protocol", range(6))
def test_references_are_read_and_turned_round(tmp_path: Path, protocol: int) -> None:
    urls = files(tmp_path, world.references(), protocol=protocol)
    entries = list(SCHEMAS["refcoco"].entries(urls))
    refer = SCHEMAS["refcoco"].example(entries[1], HOW)
    assert (refer.id, refer.image, refer.asked, refer.answers) == (
        "1", 1, ("The left one", "The red one"), ("{<1><4><17><14>}",),
    )  # fmt: skip
    identify = SCHEMAS["inv_refcoco"].example(entries[1], HOW)
    assert (identify.asked, identify.answers) == (refer.answers, refer.asked)
    with pytest.raises(LeftOutError, match="it is of split val, not train"):
        SCHEMAS["refcoco"].example(entries[0], HOW)


def test_python_2_wrote_the_published_files(tmp_path: Path) -> None:
    """Its texts are bytes to Python 3: here `caf\\xc3\\xa9` in UTF-8."""
    (tmp_path / "refs.p").write_bytes(b"(lp0\nS'caf\\xc3\\xa9'\np1\naI7\naF0.5\na.")
    assert read_plain_pickle(str(tmp_path / "refs.p")) == ["café", 7, 0.5]


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("planted",)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([Hostile()], r"posix\.mkdir"),
        ([OrderedDict(a=1)], r"collections\.OrderedDict"),
        ([{"sentences": [Counter()]}], r"collections\.Counter"),
        ([Path("x")], "pathlib"),
    ],
)
def test_a_pickle_builds_nothing_but_plain_values(
    tmp_path: Path, value: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    urls = files(tmp_path, value)
    with pytest.raises(VlfilterError, match=rf"refs\(unc\)\.p is not read: it asks for .*{named}.*may run code"):
        list(SCHEMAS["refcoco"].entries(urls))
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"no pickle at all", b"(lp0\nS'caf\\xc3'\na.", b"cos\nsystem\n."])
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(VlfilterError, match=r"refs\.p (cannot be read as a pickle of annotations|is not read)"):
        read_plain_pickle(str(tmp_path / "refs.p"))


def test_persistent_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(b"Psome id\n.")
    with pytest.raises(VlfilterError, match="it refers to objects outside the file"):
        read_plain_pickle(str(tmp_path / "refs.p"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ann_id": 7}, "its ann_id 7 is not in instances.json"),
        ({"image_id": [1]}, r"its image_id \[1\] is not in instances.json"),
        ({"sentences": []}, "it has no sentences"),
        ({"sentences": [{"sent": "the left one"}]}, "it has no raw"),
        ({"sentences": ["left"]}, "the row is not an object"),
    ],
)
def test_references_that_cannot_be_used(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    (entry,) = SCHEMAS["refcoco"].entries(files(tmp_path, [world.references()[1] | changed]))
    with pytest.raises(ValueError, match=message):
        SCHEMAS["refcoco"].example(entry, HOW)


@pytest.mark.parametrize(
    ("refs", "instances", "message"),
    [
        ({"a": 1}, None, r"refs\(unc\)\.p holds no list of references"),
        ([], {"images": []}, "instances.json has no list `annotations`"),
        ([], [], "instances.json holds no JSON object"),
    ],
)
def test_files_of_another_form(tmp_path: Path, refs: Any, instances: Any, message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        list(SCHEMAS["refcoco"].entries(files(tmp_path, refs, instances)))
