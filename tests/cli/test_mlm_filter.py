"""`vlfilter mlm-filter …` in processes of their own, against a local server that speaks the vendor's API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.test_cli import Run, vlfilter
from tests.helpers import jpeg, make_tar, pair
from tests.llm.vendor import VendorServer

__all__ = ["vlfilter"]


FINETUNE = ["finetune", "--data", "d.json", "--images", "i", "--output", "o"]


@pytest.fixture
def data(tmp_path: Path, vendor: VendorServer) -> list[str]:
    """Options for 20 pairs of which one is broken, and a teacher that grades by the length of the answer's number."""
    vendor.answer = lambda body: f"{7 * len(vendor.seen) % 101}\nIt fits."
    samples = [(f"{n:05d}", pair(f"{n:05d}", f"a picture with number {n}", jpeg(n, (24, 16)))) for n in range(19)]
    make_tar(tmp_path / "data" / "0.tar", [*samples, ("broken", pair("broken", image=b"no image"))])
    return [
        "mlm-filter", "instructions", "--images", "data", "--teacher", "openai:gpt-4o", "--output", "instructions.json",
        "--base-url", vendor.openai_url, "--pairs", "10", "--clusters", "3", "--metric", "image_text_matching",
        "--per-metric", "6",
    ]  # fmt: skip


def test_a_dry_run_tells_the_price_then_the_run_writes_the_json(
    vlfilter: Run, data: list[str], vendor: VendorServer, tmp_path: Path
) -> None:
    dry = vlfilter(*data, "--max-usd", "0.01", "--dry-run", OPENAI_API_KEY="")
    assert dry.returncode == 0, dry.stderr
    assert "10 of 20 pairs chosen" in dry.stdout
    assert "10 questions: 0 answered in the cache" in dry.stdout
    assert "more than --max-usd 0.01" in dry.stdout
    assert vendor.seen == []

    poor = vlfilter(*data, "--max-usd", "0.0001")
    assert poor.returncode == 2
    assert "the budget is used up" in poor.stderr
    assert "Finished answers are cached: raise max_usd and run again" in poor.stderr
    assert "Traceback" not in poor.stdout + poor.stderr

    whole = vlfilter(*data, "--max-usd", "1")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "graded 10 of 10: 10 ok" in whole.stdout
    assert "6 + 0 instructions in instructions.json, images below instructions/images" in whole.stdout
    rows = json.loads((tmp_path / "instructions.json").read_text())
    assert len(rows) == 6
    assert all((tmp_path / "instructions" / "images" / row["image"]).is_file() for row in rows)
    assert len(vendor.questions()) == 10


def test_a_yaml_file_describes_a_run(vlfilter: Run, data: list[str], vendor: VendorServer, tmp_path: Path) -> None:
    described = {
        "output": "out",
        "sample": {"shards": "data", "pairs": 10, "clusters": 3},
        "grade": {"teacher": "openai:gpt-4o", "base_url": vendor.openai_url, "metric": "image_text_matching"},
        "balance": {"per_metric": 4},
        "mix": {"rows": 0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(described))
    result = vlfilter("mlm-filter", "run", "--config", "run.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(json.loads((tmp_path / "out" / "instructions.json").read_text())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["instructions", "--images", "nowhere.tar"], "nowhere.tar"),
        (["instructions", "--teacher", "gpt-4o"], "openai:"),
        (["instructions", "--metric", "beauty"], "grade.metric: MLM-Filter has no metric 'beauty'"),
        (["instructions", "--teacher-view", "caption"], "needs `descriptions`"),
        (["instructions", "--prompt-version", "3"], "grade.prompt_version"),
        (["instructions", "--pairs", "0"], "sample.pairs"),
        (["instructions", "--mix", "nowhere.json"], "there is no file nowhere.json to mix in"),
        (["instructions", "--work", "data/0.tar/x"], "not writable"),
        ([*FINETUNE, "--preset", "x"], "no recipe is called 'x'"),
        ([*FINETUNE, "--set", "x"], "write NAME=VALUE"),
        ([*FINETUNE, "--set", "epochs=[1"], "--set 'epochs=[1': the value is not YAML"),
        ([*FINETUNE, "--preset", "mlm_filter_13b"], "there is no file d.json to fine-tune on"),
        (["run", "--config", "nowhere.yaml"], "there is no file nowhere.yaml"),
        (["run", "--config", "bad.yaml"], "bad.yaml is not YAML"),
        (["run", "--config", "odd.yaml"], "odd.yaml: grade.teacher: Field required"),
    ],
)
def test_a_users_mistake_is_one_message(
    vlfilter: Run, data: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "odd.yaml").write_text("output: x\ngrade: {}")
    start = data if arguments[0] == "instructions" else ["mlm-filter", arguments[0]]
    result = vlfilter(*start, *arguments[1:])
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stdout + result.stderr
