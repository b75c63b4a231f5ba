"""`vlfilter judge` as a user types it, and its answers to what is no image, no metric or no address."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers import picture, png
from tests.scoring.mlm_models import FIXTURE, answering, make, one
from vlfilter.cli import judge as judging
from vlfilter.cli.app import app
from vlfilter.data.samples import ImageText
from vlfilter.errors import VlfilterError
from vlfilter.scoring.mlm_filter_prompts import METRICS

ROOT = Path(__file__).parent.parent.parent
CAPTION = "a dog on the beach"


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "dog.png"
    path.write_bytes(png(3))
    return str(path)


def judge(image: str, *arguments: str, model: str | Path = FIXTURE, caption: str = CAPTION) -> Result:
    command = ["judge", image, "--caption", caption, "--model", str(model), "--device", "cpu", *arguments]
    return CliRunner().invoke(app, command)


def test_in_a_process_of_its_own(image: str) -> None:
    command = [sys.executable, "-c", "from vlfilter.cli import main; main()", "judge", image, "--caption", CAPTION]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        [*command, "--model", str(FIXTURE), "--device", "cpu"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    row = one(make(), ImageText(picture(3), CAPTION))
    for metric in METRICS:
        line = next(line for line in done.stdout.splitlines() if metric in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[1:] == [
            f"{row[f'{metric}_score']:.1f}",
            str(row[f"{metric}_answer"]),
            f"{row[f'{metric}_entropy']:.2f}",
        ]
    wrong = subprocess.run(
        [*command, "--model", str(FIXTURE), "--metric", "beauty"], capture_output=True, text=True, env=environment
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("vlfilter: MLM-Filter has no metric 'beauty': image_text_matching")
    assert "Traceback" not in wrong.stderr


def test_chosen_metrics_and_options(image: str) -> None:
    found = judge(image, "--metric", "image_text_matching", "--option", "space=trained", "--option", "prompt=1")
    assert found.exit_code == 0, found.output
    wanted = one(make(metric="image_text_matching", space="trained", prompt="1"), ImageText(picture(3), CAPTION))
    assert f"{wanted['image_text_matching_score']:.1f}" in found.output
    assert "semantic_understanding" not in found.output


def test_an_answer_that_is_no_number_is_told_and_ends_in_1(image: str) -> None:
    found = judge(image, "--answer", "greedy", "--metric", "caption_text_quality")
    assert found.exit_code == 1
    assert "caption_text_quality: the model answered" in found.output


def test_a_long_caption_is_told(image: str) -> None:
    assert "The caption was cut" in judge(image, "--metric", METRICS[0], caption="word " * 5_000).output


# "8", a line break, "abc", the end: each from the last token alone
WRITES = {"Ġ": "8", "8": "Ċ", "Ċ": "a", "a": "b", "b": "c", "c": "<|im_end|>"}


def test_explanations_follow_the_number(image: str, tmp_path: Path) -> None:
    found = judge(image, "--explain", "--metric", f"{METRICS[0]},{METRICS[3]}", model=answering(tmp_path / "m", WRITES))
    assert found.exit_code == 0, found.output
    for metric in (METRICS[0], METRICS[3]):
        assert f"\n{metric}: 8\nabc\n" in found.output
    assert "<|im_end|>" not in found.output


def test_an_explanation_ends_after_512_tokens(image: str, tmp_path: Path) -> None:
    endless = answering(tmp_path / "m", {"Ġ": "8", "8": "Ċ", "Ċ": "a", "a": "b", "b": "a"})
    found = judge(image, "--explain", "--metric", METRICS[0], model=endless)
    assert found.output.replace("\n", "").endswith("ab" * 255)


def test_what_a_model_writes_is_no_command_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    judging._say("\x1b[2J[red]85[/red]\nfine \u202e – ü")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]85[/red]\nfine" in shown
    assert "– ü" in shown


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        (".", "cannot be read: Is a directory"),
        ("file:///etc/passwd", "only http and https addresses are fetched"),
        ("http://127.0.0.1:1/x.png", r"127\.0\.0\.1, which is no public address: it is not visited"),
        ("http://localhost/x.png", "no public address"),
        ("https://[::1]/x.png", "no public address"),
        ("http://169.254.169.254/latest/meta-data", "no public address"),
        ("http://2130706433/", "no public address"),
        ("http://10.0.0.1/x.png", "no public address"),
    ],
)
def test_what_is_no_image(source: str, message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        raise judge(source).exception or AssertionError("it was judged")


def test_bytes_that_are_no_image(tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    page.write_bytes(b"<html>not found</html>")
    with pytest.raises(VlfilterError, match=r"page\.png: no JPEG, .* it begins like a web page\."):
        judging.read_image(str(page))
    page.write_bytes(b"x" * (judging.MAX_BYTES + 1))
    with pytest.raises(VlfilterError, match="larger than 20000000 bytes"):
        judging.read_image(str(page))


def test_an_address_is_fetched_and_decoded(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way from the address to the table; the fetching itself is tested against a real server elsewhere."""
    monkeypatch.setattr(judging, "fetch", lambda url: {"https://pictures.example/dog.png": png(3)}[url])
    metric = METRICS[0]
    assert (
        judge("https://pictures.example/dog.png", "--metric", metric).output == judge(image, "--metric", metric).output
    )
    monkeypatch.setattr(judging, "fetch", lambda url: b"<html>")
    with pytest.raises(VlfilterError, match=r"https://pictures\.example/x: no JPEG"):
        raise judge("https://pictures.example/x").exception or AssertionError("it was judged")


def test_explanations_need_the_model_here(image: str) -> None:
    options = ("--option", "backend=vllm", "--option", "base_url=http://127.0.0.1:1/v1")
    with pytest.raises(VlfilterError, match="--explain needs the model in this process"):
        raise judge(image, "--explain", *options).exception or AssertionError("it explained")
