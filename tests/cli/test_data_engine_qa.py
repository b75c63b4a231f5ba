"""`vlfilter data-engine classify`, `generate`, `postprocess` and `verify`, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers import jpeg
from tests.llm.vendor import VendorServer, prompt_of
from vlfilter.cli.data_engine import app
from vlfilter.errors import VlfilterError

ROOT = Path(__file__).parents[2]
GOOD = (
    "Question: What lies on the table [0.1, 0.2, 0.3, 0.4]?\nChoices: (A) a pen (red) (B) sand (C) a hat (D) a fork\n"
    "Answer: The answer is (B): sand.\nExplanation: By looking at the image, it is sand."
)


def _answer(body: Any) -> str:
    prompt = prompt_of(body)
    if "text categorization" in prompt:
        return "1. (9) Image scene\n2. nonsense" if "2. Who" in prompt else "1. (3) Attribute recognition"
    if "cannot see" in prompt:
        return '{"answer": "unknown"}'
    if "Look at the image" in prompt:
        listed = next(line for line in prompt.splitlines() if line.startswith("Choices:"))
        return json.dumps({"answer": listed[listed.index(") sand") - 1]})
    return GOOD if "PROMPT 1" in prompt else "Skip: nothing to ask."


class Cli:
    def __init__(self, folder: Path, vendor: VendorServer):
        self.folder, self.vendor = folder, vendor

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        server = [] if arguments[0] == "postprocess" else ["--base-url", self.vendor.openai_url]
        return [sys.executable, "-c", "from vlfilter.cli import main; main()", "data-engine", *arguments, *server]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def cli(tmp_path: Path, vendor: VendorServer) -> Cli:
    vendor.answer = _answer
    row = {"image_id": 5, "choices": ["a", "b"], "correct_choice_idx": 0}
    rows = [
        row | {"question": "Where is it?", "question_id": "x"},
        row | {"question": "Who is it?", "question_id": "y"},
    ]
    (tmp_path / "val.json").write_text(json.dumps(rows))
    queries = [{"image_id": i, "prompt": f"PROMPT {i}", "question_type": "image_scene"} for i in range(1, 4)]
    (tmp_path / "gptvqa_prompt.json").write_text(json.dumps(queries))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000000000001.jpg").write_bytes(jpeg(1, (24, 16)))
    return Cli(tmp_path, vendor)


def test_the_steps_one_after_another(cli: Cli, tmp_path: Path, vendor: VendorServer) -> None:
    said = cli("classify", "-i", "val.json", "-m", "val2017", "-o", "classified.json", "--max-usd", "1")
    assert "questions: 2 ok" in said
    assert "1 image_scene" in said
    typed = json.loads((tmp_path / "classified.json").read_text())
    assert [row["image_path"] for row in typed] == ["val2017/000000000005.jpg"] * 2
    assert len(vendor.questions()) == 2

    generating = ("generate", "-i", "gptvqa_prompt.json", "-o", "gptvqa_result.jsonl", "--max-usd", "1")
    assert "3 questions: 0 answered in the cache" in cli(*generating, "--dry-run")
    assert len(vendor.questions()) == 2
    assert "queries: 3 ok; asked 3" in cli(*generating)
    assert "nothing was to be done" in cli(*generating)
    assert vendor.questions()[-1].body["stop"] == ["###"]

    post = ("postprocess", "--input", "gptvqa_result.jsonl", "--llava", "llava.json", "--format", "QM-AE")
    said = cli(*post, "--mode", "compat", "--output", "compat.json")
    assert "init_len: 3\tprocessed_len: 1 (dropped: 2 skip)" in said
    assert json.loads((tmp_path / "compat.json").read_text())[0]["choices"] == ["a pen", "sand", "a hat", "a fork"]
    cli(*post, "--output", "gptvqa_train_data.json")
    train = json.loads((tmp_path / "gptvqa_train_data.json").read_text())
    assert train[0]["choices"] == ["a pen (red)", "sand", "a hat", "a fork"]
    assert train[0]["question"] == "What lies on the table?"
    assert json.loads((tmp_path / "llava.json").read_text())[0]["image"] == "000000000001.jpg"

    checking = (
        "verify", "-i", "gptvqa_train_data.json", "-o", "verified.json", "--images", "images",
        "--evaluation", "val.json", "--image-judge", "openai:gpt-4o", "--text-judge", "openai:gpt-4o-mini",
        "--max-usd", "1",
    )  # fmt: skip
    assert "openai:gpt-4o-mini: 2 questions" in cli(*checking, "--dry-run")
    said = cli(*checking)
    assert "kept 1 of 1" in said
    assert "image verdict: 1 agrees" in said
    assert json.loads((tmp_path / "verified.json").read_text()) == train
    assert (tmp_path / "verdicts.parquet").exists()
    said = cli(
        "verify",
        "-i",
        "gptvqa_train_data.json",
        "-o",
        "second.json",
        "--images",
        "images",
        "--earlier",
        "verified.json",
    )
    assert "kept 0 of 1; dropped: 1 earlier" in said
    assert "earlier verdict: 1 image_and_question" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "-i", "none.json", "-o", "r.jsonl"], "there is no file none.json"),
        (["generate", "-i", "gptvqa_prompt.json", "-o", "r.jsonl", "--model", "gpt-4"], "names no judge"),
        (["generate", "-i", "val.json", "-o", "r.jsonl", "--max-usd", "1", "--model", "openai:x"], "price of 'x'"),
        (["classify", "-i", "images/000000000001.jpg", "-o", "c.json"], "not a JSON file"),
        (["postprocess", "-i", "none.jsonl", "-o", "o.json"], "there is no file none.jsonl"),
        (["verify", "-i", "val.json", "-o", "o.json", "--images", "images", "--similar", "0.1"], "give 0.6 to 1"),
        (["verify", "-i", "val.json", "-o", "o.json", "--images", "images", "--dry-run"], "nobody is asked"),
    ],
)
def test_mistakes_are_one_message(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, vendor: VendorServer, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(cli.folder)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, VlfilterError)
    assert said in str(error)
    assert not vendor.questions()


def test_a_killed_run_goes_on_and_pays_for_nothing_twice(cli: Cli, tmp_path: Path, vendor: VendorServer) -> None:
    queries = [{"image_id": i, "prompt": f"PROMPT {i}", "question_type": "image_scene"} for i in range(6)]
    (tmp_path / "gptvqa_prompt.json").write_text(json.dumps(queries))
    reached, release = threading.Event(), threading.Event()

    def answer(body: Any) -> str:
        if "PROMPT 3" in prompt_of(body) and not release.is_set():
            reached.set()
            release.wait(60)
        return f"reply to {prompt_of(body)}"

    vendor.answer = answer
    arguments = ("generate", "-i", "gptvqa_prompt.json", "-o", "out/gptvqa_result.jsonl", "--concurrency", "1")
    running = subprocess.Popen(cli.command(*arguments), cwd=tmp_path, env=cli.environment, stdout=subprocess.DEVNULL)
    assert reached.wait(60)
    running.kill()
    running.wait()
    release.set()
    assert "queries: 6 ok; asked 6, of which 3 answered already" in cli(*arguments)
    prompts = vendor.prompts()
    assert prompts[:3] + prompts[4:] == [f"PROMPT {i}" for i in range(6)]  # the fourth was under way when it was killed
    made = {place.name: place.read_bytes() for place in (tmp_path / "out").glob("gptvqa*")}
    for name in made:
        (tmp_path / "out" / name).unlink()
    cli(*arguments)
    assert {place.name: place.read_bytes() for place in (tmp_path / "out").glob("gptvqa*")} == made
    assert len(made) == 3
