"""Groups as flow runs of a deployment: against a real server, with a real worker where one is needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow

from flows import dispatch
from tasks import silence
from tests.operations import Operator, Run
from tests.toy import NAME
from vlfilter.errors import VlfilterError
from vlfilter.scoring.params import Dispatch, ScoreParams
from vlfilter.scoring.plan import plan_run

GROUP = "score-shard-group"


@pytest.fixture
def operator(prefect_api: str, tmp_path: Path) -> Operator:
    operator = Operator(prefect_api, tmp_path, {"TOY_LOG": str(tmp_path / "toy.log")})
    operator.deploy(GROUP, tmp_path.name, tmp_path.name, "flows.score_shard_group.score_shard_group")
    return operator


@pytest.fixture
def params(operator: Operator, toy_run: Callable[[int, int], ScoreParams]) -> ScoreParams:
    dispatch = Dispatch(mode="deployment", deployment=f"{GROUP}/{operator.folder.name}", in_flight=2, max_attempts=3)
    return toy_run(6, 3).model_copy(update={"group_size": 2, "dispatch": dispatch})


def run(params: ScoreParams):  # type: ignore[no-untyped-def]
    from flows.score_shards import score_shards

    return score_shards(params, return_state=True)


def groups(operator: Operator) -> list[Run]:
    return [run for run in operator.runs(GROUP) if run["work_pool_name"] == operator.folder.name]


def test_a_worker_takes_the_groups_and_the_parent_reconciles(operator: Operator, params: ScoreParams) -> None:
    broken = operator.folder / "data" / "00003.tar"
    broken.write_bytes(b"this is no tar, " * 100)
    with operator.worker(operator.folder.name):
        state = run(params)
    assert state.is_failed()
    assert state.message == "1 of 6 shards have no score table: 00003"
    found = groups(operator)
    assert [run["state"]["name"] for run in found] == ["Completed", "ShardsFailed", "Completed"]
    assert found[0]["name"] == f"score {NAME} · 00000 – 00001 · group 1 of 3"
    assert len(json.dumps(found[0]["parameters"])) < 1000
    lines = (operator.folder / "toy.log").read_text().splitlines()
    assert lines.count("load") == 3  # once a group, not once a shard
    assert sum(json.loads(line)["scored"] for line in lines if line != "load") == 15

    tables = operator.ask("POST", "/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["score-shards-groups"]}}})
    rows = json.loads(tables[0]["data"])
    assert [row["state"] for row in rows] == ["ShardsFailed", "Completed", "Completed"]
    assert rows[0]["why"].startswith("1 of 2 shards failed: 00003 (")
    assert "00003.tar" in rows[0]["why"]


@pytest.fixture
def hands(operator: Operator) -> Iterator[Callable[..., None]]:
    """Stands in for workers: every run that waits gets the state that the given function says."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def begin(answer: Callable[[Run], dict[str, str]], at_once: int = 1) -> None:
        def work() -> None:
            while not stop.wait(0.1):
                found = groups(operator)
                for run in found if len(found) >= at_once else []:
                    if run["state_type"] == "SCHEDULED":
                        operator.set_state(run["id"], **answer(run))

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


def test_a_crashed_group_is_handed_out_again_but_not_for_ever(operator, params, hands) -> None:  # type: ignore[no-untyped-def]
    def answer(run: Run) -> dict[str, str]:
        if "group 2" in run["name"]:
            return {"type": "CRASHED", "message": "the machine went dark"}
        return {"type": "COMPLETED"}

    hands(answer)
    state = run(params)
    assert state.message.splitlines() == [
        "6 of 6 shards have no score table: 00000, 00001, 00002, 00003, 00004 …",
        "the machine went dark",
    ]
    names = [run["name"].split(" · ")[-1] for run in groups(operator)]
    assert sorted(names) == [
        "group 1 of 3",
        "group 2 of 3",
        "group 2 of 3 (try 2)",
        "group 2 of 3 (try 3)",
        "group 3 of 3",
    ]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_group_that_died_without_a_word_is_handed_out_again(  # type: ignore[no-untyped-def]
    operator, params, hands, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """As when the server was killed just as it noticed: no automation will tell."""
    monkeypatch.setattr(dispatch, "LISTEN", 0.0)
    monkeypatch.setattr(silence, "HEARTBEATS", timedelta(seconds=5))
    monkeypatch.setattr(silence, "time_to_begin", lambda _: timedelta(seconds=5))

    def answer(run: Run) -> dict[str, str]:
        dead = run["name"].endswith("group 2 of 3")
        return {"type": state} if dead else {"type": "COMPLETED"}

    hands(answer)
    run(params)
    ended = {run["name"].split(" · ")[-1]: run["state"] for run in groups(operator)}
    assert {name: state["type"] for name, state in ended.items()} == {
        "group 1 of 3": "COMPLETED",
        "group 2 of 3": "CRASHED",
        "group 2 of 3 (try 2)": "COMPLETED",
        "group 3 of 3": "COMPLETED",
    }
    assert ended["group 2 of 3"]["message"] == "nothing was heard of it any more"


def test_an_error_of_the_run_itself_is_tried_again_failed_shards_are_not(operator, params, hands) -> None:  # type: ignore[no-untyped-def]
    tries = []

    def answer(run: Run) -> dict[str, str]:
        tries.append(run["name"].split(" · ")[-1])
        if "group 1" in run["name"]:
            return {"type": "FAILED", "name": "ShardsFailed", "message": "2 of 2 shards failed"}
        if tries.count("group 2 of 3") == len([t for t in tries if "group 2" in t]):
            return {"type": "FAILED", "message": "the API did not answer"}
        return {"type": "COMPLETED"}

    hands(answer)
    run(params)
    assert sorted(tries) == ["group 1 of 3", "group 2 of 3", "group 2 of 3 (try 2)", "group 3 of 3"]


def test_a_retried_parent_waits_for_living_groups_and_hands_out_only_the_rest(operator, params, hands) -> None:  # type: ignore[no-untyped-def]
    """The first try is cut off while two groups are out; the second finds them by their tag."""
    from flows import score_shards as module

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        if len([run for run in groups(operator) if run["state_type"] == "SCHEDULED"]) == 2:
            raise Killed

    @flow
    def twice() -> None:
        """One flow run with two tries in it, as a parent that was killed and retried has."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.GroupTable, "show", die)
            with pytest.raises(Killed):
                module.score_shards(params, return_state=True)
        assert len(groups(operator)) == 2
        hands(lambda _: {"type": "COMPLETED"}, at_once=3)  # the two must live until they are found
        wider = params.dispatch.model_copy(update={"in_flight": 3})
        module.score_shards(params.model_copy(update={"dispatch": wider}), return_state=True)

    twice()
    assert [run["name"].split(" · ")[-1] for run in groups(operator)] == [
        "group 1 of 3",
        "group 2 of 3",
        "group 1 of 1",
    ]


def test_cancelling_the_parent_cancels_its_groups(operator, params, hands) -> None:  # type: ignore[no-untyped-def]
    from flows.dispatch import cancel_children

    parents: list[str] = []

    def answer(run: Run) -> dict[str, str]:
        if "group 1" in run["name"]:
            return {"type": "RUNNING"}
        return {"type": "PENDING"}

    hands(answer)

    def cancel() -> None:
        while not (runs := [r for r in groups(operator) if r["state_type"] in ("RUNNING", "PENDING")]) or len(runs) < 2:
            time.sleep(0.1)
        [tag] = [tag for tag in runs[0]["tags"] if tag.startswith("part-of:")]
        parents.append(tag)
        cancel_children(None, SimpleNamespace(id=tag.removeprefix("part-of:")), None)
        for run in runs:
            if operator.read(run["id"])["state_type"] == "CANCELLING":  # as the worker does when the process has ended
                operator.set_state(run["id"], type="CANCELLED")

    thread = threading.Thread(target=cancel)
    thread.start()
    state = run(params.model_copy(update={"group_size": 3}))
    thread.join()
    assert {run["state_type"] for run in groups(operator)} == {"CANCELLED"}
    assert state.message.startswith("6 of 6 shards have no score table")


def test_an_unknown_deployment_is_told_before_anything_runs(operator, params) -> None:  # type: ignore[no-untyped-def]
    state = run(params.model_copy(update={"dispatch": Dispatch(mode="deployment", deployment="no/such")}))
    with pytest.raises(VlfilterError, match="the server knows no deployment no/such"):
        state.result()


def test_without_a_server_the_same_parameters_run_here(operator, params, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from flows import score_shards as module

    monkeypatch.setattr(module, "server_configured", lambda: False)
    assert run(params).is_completed()
    assert plan_run(params).work == []
    assert groups(operator) == []
    assert not (operator.folder / "out" / ".plans").exists()
