"""Steps that want a GPU: a flow of their own, run here or by a deployment on the GPU pool."""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.deployments import run_deployment
from prefect.states import Failed, State
from pydantic import BaseModel

from vlfilter.errors import VlfilterError

ATTEMPTS = 3  # of a run that crashes
POLL_S = 5.0


def run_on_gpu(flow: Flow[[Any], Any], params: BaseModel, deployment: str | None) -> State[Any]:
    """How `flow(params)` ended, here or in `deployment` (FLOW/NAME). A mistake of the user's is raised as such."""
    if deployment is None:
        ended: Any = flow(params, return_state=True)
        here: State[Any] = ended
        error = None if here.is_completed() else here.result(raise_on_failure=False)
        if isinstance(error, VlfilterError):
            raise error
        return here
    values = {"params": params.model_dump(mode="json", exclude_none=True)}
    for _ in range(ATTEMPTS):  # what is done stays done, so a run on a machine that died goes on elsewhere
        run: Any = run_deployment(deployment, parameters=values, timeout=None, poll_interval=POLL_S)
        if run.state is None or not run.state.is_crashed():
            break
    if run.state is None or not run.state.is_completed():
        ended = run.state.message if run.state else "it has no state"
        return Failed(message=f"{deployment} ({run.name}): {ended}")
    ended_well: State[Any] = run.state
    return ended_well
