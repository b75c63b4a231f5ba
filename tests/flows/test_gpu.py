"""Steps on the GPU pool that crash, on a real server; the test is the worker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import flow
from prefect.states import State
from pydantic import BaseModel

from flows import gpu
from flows.gpu import run_on_gpu
from tests.operations import Operator


class Params(BaseModel):
    number: int = 1


@flow(name="part-on-gpu")
def part(params: Params) -> None:
    raise AssertionError("it is to run elsewhere")


@pytest.mark.parametrize(("ends", "final"), [(["CRASHED", "COMPLETED"], "COMPLETED"), (["CRASHED"] * 3, "FAILED")])
def test_a_crashed_part_is_started_again_but_not_for_ever(
    ends: list[str], final: str, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "POLL_S", 0.5)
    operator = Operator(prefect_api, tmp_path)
    operator.deploy("part-on-gpu", "test", "cpu", "tests.flows.test_gpu.part")
    before = {run["id"] for run in operator.runs("part-on-gpu")}

    @flow
    def whole() -> State[None]:
        return run_on_gpu(part, Params(), "part-on-gpu/test")

    def work() -> None:
        for seen, end in enumerate(ends):
            while len(new := [run for run in operator.runs("part-on-gpu") if run["id"] not in before]) <= seen:
                time.sleep(0.2)
            operator.set_state(new[-1]["id"], type=end)

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work)
        state = whole(return_state=True)
        worker.result(timeout=60)
    assert state.type.value == final
    new = [run for run in operator.runs("part-on-gpu") if run["id"] not in before]
    assert [run["state_type"] for run in new] == ends
