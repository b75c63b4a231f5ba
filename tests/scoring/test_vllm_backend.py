"""MLM-Filter through a server: the exact distribution, few requests, and every way in which a server can fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.helpers import make_tar, pair, picture
from tests.models import hf, small
from tests.scoring.fake_vllm import IMAGE, FakeVllm
from vlfilter.cli.app import app
from vlfilter.data.samples import ImageText, SampleError, Status
from vlfilter.data.shards import list_shards
from vlfilter.data.tables import open_parquet
from vlfilter.errors import ServerError, VlfilterError
from vlfilter.models.preprocess import default_settings, to_pixels
from vlfilter.scoring import vllm_client
from vlfilter.scoring.base import ScorerSettings
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS
from vlfilter.scoring.numbers import NumberTree, entropy, expectation
from vlfilter.scoring.runner import BatchRunner

DIGITS = [hf.tokenizer().ids(str(digit))[0] for digit in range(10)]
PATCHES = (small.PIXELS // 4) ** 2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_client, "PAUSE", 0.001)
    monkeypatch.delenv(vllm_client.KEY, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf.save(tmp_path_factory.mktemp("vllm") / "tiny", *hf.build())


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with FakeVllm(hf.tokenizer(), PATCHES, likes=DIGITS) as server:
        yield server


def scorer(folder: Path, fake: FakeVllm, *, load: bool = True, **options: Any) -> MlmFilter:
    chosen = {"backend": "vllm", "base_url": fake.url, "caption_max_tokens": 200, **options}
    made = MlmFilter(ScorerSettings(str(folder), device="cpu", dtype="float32", options=chosen))
    if load:
        made.load()
        fake.requests.clear()
    return made


def score(made: MlmFilter, *captions: str) -> dict[str, Sequence[Any]]:
    return made.score([made.prepare(ImageText(picture(i), caption)) for i, caption in enumerate(captions)])


def meant(fake: FakeVllm, made: MlmFilter, caption: str) -> np.ndarray:
    """(metrics, 101) with every node of the tree looked at."""
    assert made._server is not None
    tree = NumberTree.of(fake.tokenizer)
    rows = []
    for ids in made._server._ids(caption):
        place = ids.index(-200)
        tokens = [*ids[:place], *([IMAGE] * PATCHES), *ids[place + 1 :]]
        rows.append([fake.next([*tokens, *node])[list(tree.alphabet)] for node in tree.nodes])
    return tree.distribution(np.array(rows))


def test_the_distribution_is_exact(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake)
    captions = ["a red bus", "", "漢字 100", "a dog"]
    columns = score(made, *captions)
    for i, caption in enumerate(captions):
        probabilities = meant(fake, made, caption)
        for m, metric in enumerate(METRICS):
            assert columns[f"{metric}_score"][i] == pytest.approx(expectation(probabilities)[m], abs=1e-3)
            assert columns[f"{metric}_entropy"][i] == pytest.approx(entropy(probabilities)[m], abs=1e-3)
            assert columns[f"{metric}_answer"][i] == probabilities[m].argmax()
    assert len({round(value, 3) for metric in METRICS for value in columns[f"{metric}_score"]}) == 16
    assert columns["truncated"] == [False] * 4


def test_an_image_travels_once_as_the_towers_pixels(folder: Path, fake: FakeVllm) -> None:
    score(scorer(folder, fake), "a red bus")
    sent = [body["messages"][0]["content"][0]["image_url"] for body in fake.requests]
    assert sum(image is not None for image in sent) == 1
    pixels = to_pixels(picture(0), default_settings("clip_vision_model", small.PIXELS))
    assert any(np.array_equal(image, pixels) for image in fake.images.values())
    assert 4 < len(fake.requests) <= 4 * 11


def test_a_sure_model_costs_few_requests(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake)
    sure = np.where(np.arange(len(fake.tokenizer.hf)) == DIGITS[8], -1e-7, -23.0)
    fake.next = lambda tokens: sure  # type: ignore[method-assign]
    columns = score(made, "a red bus")
    assert len(fake.requests) == 4
    assert [columns[f"{metric}_answer"][0] for metric in METRICS] == [88] * 4


def test_a_server_that_keeps_no_images_gets_them_again(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake)
    expected = score(made, "a red bus")
    fake.keeps_images = False
    assert score(made, "a red bus") == expected


def test_greedy_answers(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake, answer="greedy")
    fake.likes = [*DIGITS, *fake.tokenizer.ids("\n")]
    columns = score(made, *(f"picture {i}" for i in range(8)))
    read = [columns[f"{metric}_score"][i] for metric in METRICS for i in range(8)]
    numbers = [value for value in read if isinstance(value, float)]
    assert numbers
    assert all(0 <= value <= 100 for value in numbers)
    assert all("no number from 0 to 100" in value.reason for value in read if isinstance(value, SampleError))
    assert all(body["max_tokens"] == 3 and "allowed_token_ids" not in body for body in fake.requests)


def test_many_requests_wait_there_but_no_more_than_asked(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake, in_flight=5)
    score(made, *(f"picture {i}" for i in range(12)))
    assert 1 < fake.most_at_once <= 5


@pytest.mark.parametrize("fault", [429, 500, 503, "half", "drop"])
def test_passing_faults_change_nothing(folder: Path, fake: FakeVllm, fault: int | str) -> None:
    made = scorer(folder, fake)
    expected = score(made, "a red bus", "a dog")
    fake.faults = [fault] * 4
    assert score(made, "a red bus", "a dog") == expected
    assert fake.faults == []


def test_one_bad_request_costs_one_row(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake)
    expected = score(made, "a red bus")
    for trouble in ("refuses", "stumbles"):
        setattr(fake, trouble, "elephant")
        columns = score(made, "a red bus", "an elephant")
        assert all(columns[name][0] == values[0] for name, values in expected.items())
        error = columns["semantic_understanding_score"][1]
        assert isinstance(error, SampleError)
        assert error.reason.startswith("the server did not answer: HTTP")
        assert columns["semantic_understanding_entropy"][1] is None
        setattr(fake, trouble, "")


def test_a_server_that_dies_fails_the_shard_and_keeps_what_is_done(
    folder: Path, fake: FakeVllm, tmp_path: Path
) -> None:
    for name in ("0", "1"):
        make_tar(tmp_path / "shards" / f"{name}.tar", [(f"{name}{i}", pair(f"{name}{i}")) for i in range(3)])
    first, second = list_shards(str(tmp_path / "shards"))
    runner = BatchRunner(scorer(folder, fake), 8192)
    output = str(tmp_path / "out")
    (done,) = score_shard(first, [runner], output, EngineSettings())
    assert open_parquet(done.url).read()["status"].to_pylist() == ["ok"] * 3
    fake.dead = True
    for says in ("stopped answering .*Finished shards are kept", "does not answer any more"):
        with pytest.raises(ServerError, match=says):
            score_shard(second, [runner], output, EngineSettings())
    assert [path.name for path in sorted((tmp_path / "out" / "mlm_filter").iterdir())] == ["0.parquet"]
    fake.dead = False
    (again,) = score_shard(second, [runner], output, EngineSettings())
    assert open_parquet(again.url).read()["status"].to_pylist() == ["ok"] * 3


def test_control_tokens_in_a_caption_are_not_sent(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake)
    for caption in ("no </s> more", "an <<image>> again"):
        with pytest.raises(SampleError, match="control token") as caught:
            made.prepare(ImageText(picture(), caption))
        assert caught.value.status == Status.UNSUPPORTED
    assert len(score(made, "an <image> here")["truncated"]) == 1  # becomes the word, as in the other backend


def test_a_long_caption_is_cut_and_says_so(folder: Path, fake: FakeVllm) -> None:
    made = scorer(folder, fake, caption_max_tokens=20)
    assert score(made, "word " * 300, "word")["truncated"] == [True, False]
    longest = max(len(body["chat_template_kwargs"]["exact_prompt"]) for body in fake.requests)
    assert longest < 3000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"processed": True}, "own log-probabilities"),
        ({"template": "<s>{exact_prompt}"}, "reads a question as .* the first 1 are the same"),
        ({"template": "USER: <image> hello"}, "reads a question as"),
        ({"max_length": 300}, "--max-model-len"),
        ({"image_tokens": 9}, "reads a question as"),
    ],
)
def test_a_server_that_reads_otherwise_is_told_before_scoring(
    folder: Path, fake: FakeVllm, change: dict[str, Any], says: str
) -> None:
    for name, value in change.items():
        setattr(fake, name, value)
    with pytest.raises(VlfilterError, match=says):
        scorer(folder, fake)


def test_what_is_wrong_with_the_address(folder: Path, fake: FakeVllm) -> None:
    for url, says in (
        ("127.0.0.1:8000", "give the server's URL"),
        ("", "give the server's URL"),
        ("http://me:secret@127.0.0.1/v1", "no password"),
    ):
        with pytest.raises(VlfilterError, match=says) as caught:
            scorer(folder, fake, load=False, base_url=url)
        assert "secret" not in str(caught.value)
    for url, says in (
        (fake.url.removesuffix("/v1"), "no OpenAI API .*ends with /v1"),
        ("http://127.0.0.1:9/v1", "no server answers at http://127.0.0.1:9/v1"),
    ):
        with pytest.raises(VlfilterError, match=says):
            scorer(folder, fake, load=False, base_url=url).check_server()
    with pytest.raises(VlfilterError, match="does not serve other; it has tiny"):
        scorer(folder, fake, load=False, served_model="other").check_server()


def test_the_key_comes_from_the_environment_and_stays_there(
    folder: Path, fake: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.key = "sk-very-secret"
    with pytest.raises(VlfilterError, match="refuses a request without a key: set VLLM_API_KEY"):
        scorer(folder, fake)
    monkeypatch.setenv(vllm_client.KEY, "sk-wrong-one")
    with pytest.raises(VlfilterError, match=r"refuses the key in VLLM_API_KEY \(HTTP 401\)") as caught:
        scorer(folder, fake)
    assert "sk-" not in str(caught.value)
    monkeypatch.setenv(vllm_client.KEY, fake.key)
    made = scorer(folder, fake)
    score(made, "a red bus")
    assert "sk-" not in str(made.fingerprint())
    fake.key = "sk-changed"
    with pytest.raises(VlfilterError, match="refuses the key") as caught:
        BatchRunner(made, 8192).run([made.prepare(ImageText(picture(), "a dog"))])
    assert not isinstance(caught.value, ServerError)


def test_where_the_server_is_changes_no_fingerprint(folder: Path, fake: FakeVllm) -> None:
    one = scorer(folder, fake, load=False)
    other = scorer(folder, fake, load=False, base_url="http://elsewhere/v1", in_flight=3, served_model="x")
    assert one.fingerprint() == other.fingerprint()
    here = MlmFilter(ScorerSettings(str(folder), dtype="float32", options={"caption_max_tokens": 200}))
    assert one.fingerprint() != here.fingerprint()


def test_the_original_scripts_have_no_server(folder: Path, fake: FakeVllm) -> None:
    options = {"backend": "vllm", "base_url": fake.url, "vision": "embedded"}
    with pytest.raises(VlfilterError, match="are for backend transformers"):
        MlmFilter(ScorerSettings(str(folder), compat="original", options=options))


@pytest.mark.parametrize("option", ["base_url", "served_model"])
def test_a_server_is_not_silently_left_out(folder: Path, fake: FakeVllm, option: str) -> None:
    with pytest.raises(VlfilterError, match="is for backend vllm"):
        scorer(folder, fake, load=False, backend="transformers", **{"base_url": "", option: "http://x/v1"})


def test_the_command_line_says_it_before_a_run(folder: Path, fake: FakeVllm, tmp_path: Path) -> None:
    make_tar(tmp_path / "0.tar", [("a", pair("a"))])
    command = ["score", "--shards", str(tmp_path), "--output", str(tmp_path / "out"), "--scorer", "mlm_filter"]
    command += ["--model", f"mlm_filter={folder}", "--backend", "vllm", "--option", "mlm_filter.served_model=other"]
    done = CliRunner().invoke(app, [*command, "--base-url", fake.url])
    assert "does not serve other" in str(done.exception)
    assert not (tmp_path / "out" / "mlm_filter").exists()
    wrong = CliRunner().invoke(app, ["score", *command[1:6], "clip_score", "--base-url", fake.url])
    assert "--base-url is for the scorer mlm_filter" in str(wrong.exception)
