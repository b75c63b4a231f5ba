"""A person at Prefect's UI: fills in a form, sees the run complete, looks at its artifacts, retries a failed one.

`make test-ui`; with VLFILTER_SCREENSHOTS=1 the README's pictures are taken on the way (docs/images).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.ui.browser import Ui, chromium, open_ui
from tests.ui.stage import SHARD_URLS, SHARDS, Stage, set_up

pytestmark = [pytest.mark.ui, pytest.mark.timeout(1800)]
BROKEN = 3
RUN_SECONDS = 900  # on a busy machine


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if chromium() is None:
        pytest.skip("no Chromium: infra/test-browser.sh installs it")
    with set_up(tmp_path_factory.mktemp("ui")) as stage:
        yield stage


@pytest.fixture
def ui(stage: Stage) -> Iterator[Ui]:
    with open_ui(stage.ui) as ui:
        yield ui


def test_a_form_is_filled_in_and_the_run_shows_its_artifacts(stage: Stage, ui: Ui) -> None:
    deployment = stage.operator.ask("GET", "/deployments/name/score-shards/main")["id"]
    ui.go(f"deployments/deployment/{deployment}")
    ui.button("Run").click()
    ui.page.get_by_role("menuitem", name="Custom run").click()
    ui.see("Tar shards: a path, a glob, braces, a directory, an s3:// prefix, or a manifest file.")
    ui.fill("Shards", SHARD_URLS)
    ui.fill("Output", "s3://datacomp/scores")
    ui.add_item("Scorer", "clip_score")
    ui.fill_json("Model", json.dumps({"clip_score": str(stage.model)}))
    ui.picture("form", height=670)  # the model is a folder of this test
    run = ui.submit()
    ended = stage.operator.wait(run, seconds=RUN_SECONDS)
    samples = SHARDS * 40
    assert ended["state"]["message"] == f"{SHARDS} shards scored. clip_score: {samples} samples, {samples} with a score"
    assert ended["parameters"]["params"]["model"] == {"clip_score": str(stage.model)}

    ui.go(f"runs/flow-run/{run}")
    ui.see("Completed")
    ui.see(f"score clip_score · {SHARD_URLS}")
    for tag in ("vlfilter", "score", "restart"):
        ui.see(tag)
    ui.tab("Artifacts")
    for key in ("score-shards-progress", "score-shards-shards", "score-shards-histogram"):
        ui.see(key)
    ui.picture("run")

    ui.open_artifact("score-shards-shards")
    ui.see("00007")
    ui.see("40 ok")
    ui.picture("shards")
    ui.go(f"runs/flow-run/{run}")
    ui.tab("Artifacts")
    ui.open_artifact("score-shards-histogram")
    image = ui.page.locator("img[src^='data:image/png']").first
    image.wait_for()
    assert image.evaluate("image => image.naturalWidth") > 100
    ui.picture("histogram", height=665)


def test_retry_in_the_menu_runs_the_failed_shard_alone(stage: Stage, ui: Ui) -> None:
    stage.write_shard(BROKEN, b"this is no tar, " * 100)
    params = {"shards": SHARD_URLS, "output": "s3://datacomp/retried", "scorer": ["clip_score"]}
    params |= {"model": {"clip_score": str(stage.model)}}
    run = stage.operator.start("score-shards/main", {"params": params})
    failed = stage.operator.wait(run, seconds=RUN_SECONDS)
    assert failed["state"]["message"] == f"1 of {SHARDS} shards have no score table: {BROKEN:05d}"
    before = stage.tables("retried")
    assert len(before) == SHARDS - 1
    _become(lambda: stage.scored(run), [f"{number:05d}" for number in range(SHARDS)])

    ui.go(f"runs/flow-run/{run}")
    ui.see("Failed")
    ui.picture("failed")
    stage.write_shard(BROKEN)
    since = datetime.now(UTC).isoformat()
    ui.menu("Retry")
    dialog = ui.page.get_by_role("alertdialog").or_(ui.page.get_by_role("dialog"))
    dialog.get_by_role("button", name="Retry", exact=True).click()
    dialog.wait_for(state="hidden")
    stage.operator.wait(run, "SCHEDULED", "PENDING", "RUNNING", "COMPLETED", seconds=RUN_SECONDS)
    ended = stage.operator.wait(run, seconds=RUN_SECONDS)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert ended["run_count"] == 2

    ui.go(f"runs/flow-run/{run}")
    ui.see("Completed")
    _become(lambda: stage.scored(run, since), [f"{BROKEN:05d}"])
    after = stage.tables("retried")
    assert {name: after[name] for name in before} == before
    assert len(after) == SHARDS
    ui.go("deployments")
    ui.see("score-shards")
    ui.picture("deployments")


def _become(read: Callable[[], list[str]], wanted: list[str]) -> None:
    """The server writes task runs down a moment after they have ended."""
    deadline = time.monotonic() + 60
    while read() != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    assert read() == wanted
