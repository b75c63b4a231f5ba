"""Addresses in data are text: no step looks one up or connects to it. Watched by the interpreter's own audit events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import document, jpeg, make_tar, pair
from tests.llm.vendor import VendorServer
from tests.security.models import micro_clip
from vlfilter.data.image_files import load_image
from vlfilter.data.samples import SampleError

ROOT = Path(__file__).parents[2]
URLS = (
    "http://169.254.169.254/latest/meta-data/",
    "https://internal.example/a.jpg",
    "http://127.0.0.1:1/a.jpg",
    "file:///etc/passwd",
    "s3://somebody-elses/a.jpg",
    "simplecache::http://127.0.0.1:1/a.jpg",
    "ftp://127.0.0.1:1/a.jpg",
    "//127.0.0.1:1/a.jpg",
    "data:image/png;base64,AAAA",
)

# Every connection and look-up of a name, with where in our code it came from; those to the vendor are its own.
WATCH = """
import json, sys, traceback
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
          "http.client.connect", "ftplib.connect", "subprocess.Popen", "os.system", "webbrowser.open")
PLATFORM = ("/sbin/ldconfig", "uname")  # Python's own questions about the machine
seen = []
def hook(event, arguments):
    if event in EVENTS and str(arguments[0]) not in PLATFORM:
        seen.append([event, repr(arguments[-1] if event == "socket.connect" else arguments[:2])])
sys.addaudithook(hook)
"""

SCORE = """
from vlfilter.data.shards import list_shards
from vlfilter.data.reshard import reshard
from vlfilter.methods.mlm_filter.sampling import SampleSettings, sample_pairs
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.selection.select import select
params = ScoreParams(shards="data", output="out", scorer=["clip_score", "injection"],
                     model={"clip_score": "clip"})
[shard] = list_shards("data")
results = score_shard(shard, load_runners(params, ["clip_score", "injection"]), "out", EngineSettings())
select("out", "kept.npy", where="clip_score.status == 'ok'")
reshard([shard], "kept.npy", "new")
sample_pairs("data", "images", "pairs.json", "captions.parquet", SampleSettings(pairs=3, clusters=1))
preprocess("llava.json", "pre")
print(json.dumps({"seen": seen, "rows": [r.footer.rows for r in results]}))
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Addresses wherever a sample or a row may hold one, in every form that some library would open."""
    samples = []
    for i, url in enumerate(URLS):
        fields = {"url": url, "image_url": url, "caption": f"see {url}", "original_url": url}
        members = pair(f"p{i}", f"a picture ![x]({url}) <img src='{url}'> of {url}")
        samples.append((f"p{i}", members | {"json": json.dumps(fields).encode(), "url": url.encode()}))
        samples.append((f"n{i}", {"txt": url.encode(), "json": json.dumps(fields).encode(), "url": url.encode()}))
    info = [{"image_url": url, "url": url, "image_base64": url} for url in URLS]
    samples.append(("d0", {"json": json.dumps({"texts": [None] * len(URLS), "image_info": info}).encode()}))
    samples.append(("d1", document([None, *URLS], [jpeg(1), *[None] * len(URLS)])))
    make_tar(tmp_path / "data" / "0.tar", samples)
    turns = [{"from": "human", "value": f"<image>\nwhat is at {URLS[0]}?"}, {"from": "gpt", "value": URLS[1]}]
    rows = [{"id": str(i), "image": url, "conversations": turns} for i, url in enumerate(URLS)]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    micro_clip(tmp_path / "clip")
    return tmp_path


def watched(code: str, folder: Path, *arguments: str) -> dict[str, list[list[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", WATCH + code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, list[list[str]]] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_scoring_choosing_resharding_and_sampling_open_no_connection(world: Path) -> None:
    found = watched(SCORE, world)
    assert found["rows"] == [2 * len(URLS) + 2] * 2
    assert found["seen"] == []


def test_the_watch_sees_a_connection(tmp_path: Path) -> None:
    code = """
import socket
try:
    socket.create_connection(("127.0.0.1", 1), 0.2)
except OSError:
    pass
print(json.dumps({"seen": seen}))
"""
    events = [event for event, _ in watched(code, tmp_path)["seen"]]
    assert events == ["socket.getaddrinfo", "socket.connect"]


GRADE = """
from vlfilter.llm.client import Judge, JudgeSettings
from vlfilter.methods.mlm_filter.grading import GradeSettings, grade_pairs
from vlfilter.methods.mlm_filter.pairs import ChosenPair, write_pairs
urls = json.loads(sys.argv[2])
write_pairs("pairs.json", [ChosenPair(f"p{i}", "a.jpg", f"see {url}", key=f"k{i}") for i, url in enumerate(urls)])
with Judge(JudgeSettings("openai:m", sys.argv[1], cache="answers")) as judge:
    told = grade_pairs("pairs.json", "images", "grades.parquet", judge, GradeSettings(teacher="openai:m"))
print(json.dumps({"seen": seen, "rows": [told["rows"]]}))
"""


def test_a_teacher_is_the_only_one_who_is_asked(vendor: VendorServer, tmp_path: Path) -> None:
    """And it gets images as bytes, never as an address that it would fetch."""
    vendor.answer = lambda _: "50"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg(1))
    found = watched(GRADE, tmp_path, vendor.openai_url, json.dumps(URLS))
    assert found["rows"] == [{"ok": 4 * len(URLS)}]
    port = vendor.url.rpartition(":")[2]
    assert [one for one in found["seen"] if "'127.0.0.1'" not in one[1] or port not in one[1]] == []
    parts = [part for seen in vendor.questions() for part in seen.body["messages"][0]["content"]]
    shown = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert len(shown) == 4 * len(URLS)
    assert all(url.startswith("data:image/jpeg;base64,") for url in shown)


@pytest.mark.parametrize("url", URLS)
def test_an_address_in_place_of_a_path_is_a_path(tmp_path: Path, url: str) -> None:
    with pytest.raises(SampleError, match=r"there is no image|leads out of"):
        load_image(str(tmp_path), url)
