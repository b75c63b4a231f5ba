"""Work pools `cpu` and `gpu` and their queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import WorkQueueFilter, WorkQueueFilterName
from prefect.exceptions import ObjectNotFound

from deployments.templates import TYPES
from vlfilter.errors import VlfilterError

POOLS = {
    "cpu": "Plans, asks judges, selects, and scores what needs no GPU.",
    "gpu": "Trains and scores on GPUs: one worker a GPU.",
}
# A worker takes from the queue with the lowest number first. `default` is where a run goes that somebody starts.
QUEUES: dict[str, dict[str, int]] = {
    "cpu": {"default": 1, "scheduled": 2},
    "gpu": {"default": 1, "groups": 2},
}


def apply_pools(client: SyncPrefectClient, kind: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Make or update the pools; tells what changed. `environment` goes into every run.

    Raises `VlfilterError` for an unknown type, or where a pool of another type is in the way.
    """
    if kind not in TYPES:
        raise VlfilterError(f"the pool type {kind!r} is none of {', '.join(TYPES)}: set VLFILTER_POOL_TYPE.")
    for name, description in POOLS.items():
        template = TYPES[kind](name == "gpu", environment)
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=name, type=kind, description=description, base_job_template=template)
            )
            yield f"work pool {name} ({kind}): created"
        else:
            if found.type != kind:
                raise VlfilterError(
                    f"the work pool {name} is of the type {found.type}, and a pool's type cannot change: set "
                    f"VLFILTER_POOL_TYPE={found.type}, or remove it (prefect work-pool delete {name}) and deploy again."
                )
            if (found.description, found.base_job_template) != (description, template):
                client.update_work_pool(name, WorkPoolUpdate(description=description, base_job_template=template))
                yield f"work pool {name}: updated"
        yield from _apply_queues(client, name)


def _apply_queues(client: SyncPrefectClient, pool: str) -> Iterator[str]:
    wanted = QUEUES[pool]
    names = WorkQueueFilter(name=WorkQueueFilterName(any_=list(wanted)))
    found = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool, work_queue_filter=names)}
    for name, priority in wanted.items():
        if name not in found:
            client.create_work_queue(name, work_pool_name=pool, priority=priority)
            yield f"work queue {pool}/{name}: created"
        elif found[name].priority != priority:
            client.update_work_queue(found[name].id, priority=priority)
            yield f"work queue {pool}/{name}: updated"
