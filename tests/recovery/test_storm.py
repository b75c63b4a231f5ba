"""Twenty kills while 200 shards are scored, with storage that fails every tenth request: the tables come out as if
nothing had happened."""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.silence import silent
from tests.faults.s3_proxy import S3Proxy, every_tenth
from tests.helpers import pairs, tar_bytes
from tests.operations import FINAL, ROOT, Operator, Program, Run, descendants, kill
from tests.recovery.services import S3, Postgres, PrefectServer, postgres_programs
from tests.toy import NAME
from vlfilter.scoring.params import Dispatch, ScoreParams

pytestmark = [
    pytest.mark.operations,
    pytest.mark.timeout(2700),
    pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL: infra/test-services.sh installs it"),
]
SHARDS, SAMPLES, GROUP, SEED = 200, 5, 10, 20261127
BUCKET = "storm"
BY_ITSELF = 40.0  # seconds in which the server may start a crashed run again; then somebody presses Retry
LOOK = 60.0  # seconds between two looks of somebody at `vlfilter doctor`
PATIENCE = 2400.0  # some 10 minutes on two idle cores
# Each kind of blow as often as it is listed here, twenty in all. `host` takes a worker with all it has started, which
# nobody is left to report, `beginning host` one whose run has not begun; `run` takes only the process of a group's run,
# which its worker reports.
BLOWS = (
    ["host"] * 4
    + ["beginning host"] * 1
    + ["run"] * 5
    + ["parent"] * 3
    + ["parent's host"] * 1
    + ["server"] * 3
    + ["database"] * 3
)


@dataclass
class World:
    """All that runs; a blow hits one part, which is started again as a supervisor would."""

    database: Postgres
    server: PrefectServer
    operator: Operator
    s3: s3fs.S3FileSystem
    endpoint: str
    workers: dict[str, Program] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)  # finished tables with their etag when first seen

    def start_worker(self, name: str) -> None:
        self.workers[name] = self.operator.worker(name.rpartition("-")[0])

    def supervise(self) -> None:
        """Start workers again that have ended by themselves: Prefect's give up when their server is away for long."""
        for name, worker in self.workers.items():
            if worker.process.poll() is not None:
                self.start_worker(name)

    def runs_of(self, name: str) -> list[int]:
        """The processes of the flow runs that a worker has started."""
        return descendants(self.workers[name].process.pid)[1:]

    def strike(self, blow: str, rng: random.Random) -> bool:
        """False when there was nothing to hit."""
        if blow == "server":
            self.server.kill()
            self.server.start()
        elif blow == "database":
            self.database.restart()
        else:
            order = rng.sample(["gpu-1", "gpu-2"], 2)
            order = ["cpu-1", *order] if blow.startswith("parent") else [*order, "cpu-1"]
            busy = [name for name in order if self.runs_of(name)]
            if blow == "beginning host":
                pending = {run["infrastructure_pid"] for run in self.open_runs() if run["state_type"] == "PENDING"}
                busy = [name for name in busy if pending & set(map(str, self.runs_of(name)))]
            if not busy:
                return False
            name = busy[0]
            if blow.endswith("host"):
                self.workers[name].kill()
                self.start_worker(name)
            else:
                kill(*self.runs_of(name))
        return True

    def open_runs(self) -> list[Run]:
        runs = self.operator.runs("score-shards") + self.operator.runs("score-shard-group")
        return [run for run in runs if run["state_type"] not in FINAL]

    def look(self) -> int:
        """How many tables there are."""
        found = self.s3.ls(f"{BUCKET}/scores/toy", detail=True) if self.s3.exists(f"{BUCKET}/scores/toy") else []
        for entry in found:
            if entry["name"].endswith(".parquet"):
                self.seen.setdefault(entry["name"], entry["ETag"])
        return len(self.seen)


@contextmanager
def world(folder: Path) -> Iterator[tuple[World, S3Proxy]]:
    with ExitStack() as stack:
        s3 = stack.enter_context(S3(folder))
        proxy = S3Proxy(s3.url, every_tenth)
        stack.callback(proxy.stop)
        database = stack.enter_context(Postgres())
        server = stack.enter_context(PrefectServer(folder, database.url))
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        environment = {**keys, "AWS_ENDPOINT_URL": proxy.url, "AWS_EC2_METADATA_DISABLED": "true", "TOY_SECONDS": "0.2"}
        operator = Operator(server.url, folder, environment)
        direct = s3fs.S3FileSystem(
            key="test", secret="test", endpoint_url=s3.url, use_listings_cache=False, skip_instance_cache=True
        )
        made = World(database, server, operator, direct, s3.url)
        stack.callback(lambda: [worker.kill() for worker in made.workers.values()])
        yield made, proxy


def test_twenty_kills(tmp_path: Path) -> None:
    assert len(BLOWS) == 20
    rng = random.Random(SEED)
    blows = ["host", *rng.sample(BLOWS[1:], 19)]  # a silent death comes first, so that its detection is in the test
    moments = sorted(rng.sample(range(5, SHARDS * 3 // 4), len(blows)))
    (tmp_path / "toy.txt").write_text("1.0")
    with world(tmp_path) as (here, proxy):
        here.s3.call_s3("create_bucket", Bucket=BUCKET)
        here.s3.call_s3("put_bucket_versioning", Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        for number in range(SHARDS):
            here.s3.pipe_file(f"{BUCKET}/data/{number:05d}.tar", tar_bytes(pairs(SAMPLES, number * SAMPLES)))
        deploy(here.operator)
        for name in ("cpu-1", "gpu-1", "gpu-2"):
            here.start_worker(name)
        params = ScoreParams(
            shards=f"s3://{BUCKET}/data/",
            output=f"s3://{BUCKET}/scores",
            scorer=[NAME],
            model={NAME: str(tmp_path / "toy.txt")},
            group_size=GROUP,
            dispatch=Dispatch(mode="deployment", in_flight=SHARDS // GROUP, max_attempts=5),
        )
        parent = here.operator.start("score-shards/main", {"params": params.model_dump(mode="json")})

        retries, ended = 0, None
        deadline = time.monotonic() + PATIENCE
        looked = time.monotonic()
        while True:
            done = here.look()
            if blows and done >= moments[0]:
                print(f"{done} tables: {blows[0]}", flush=True)
                if here.strike(blows[0], rng):
                    blows.pop(0)
                    moments.pop(0)
            here.supervise()
            run = here.operator.read(parent)
            if run["state_type"] == "COMPLETED":
                break
            if run["state_type"] not in FINAL:
                ended = None
            elif ended is None:
                ended = time.monotonic()
            elif time.monotonic() > ended + BY_ITSELF:
                retries, ended = retries + 1, None
                here.operator.retry(parent)
            if time.monotonic() > looked + LOOK:
                looked = time.monotonic()
                if is_silent(here.operator, parent):  # then the server was killed over it, and nobody else will tell
                    print(f"{done} tables: the parent is silent, and is set to Crashed", flush=True)
                    here.operator.set_state(parent, type="CRASHED", message="vlfilter doctor says so")
            if time.monotonic() > deadline:
                still = [f"{run['name']}: {run['state']}" for run in here.open_runs()]
                pytest.fail(f"{done} tables, {len(blows)} blows left, the parent {run['state']['name']}; {still}")
            time.sleep(0.3)
        print(f"retries pressed: {retries}; requests spoiled: {len(proxy.faults())}", flush=True)

        assert blows == []
        assert len(proxy.faults()) > SHARDS // 10
        assert were_found_dead(here.operator, "No heartbeat")
        assert were_found_dead(here.operator, "Not begun", "nothing was heard")
        check_tables(here, params)


def deploy(operator: Operator) -> None:
    """As `make deploy`."""
    environment = {"PREFECT_API_URL": operator.url}
    program = Program([sys.executable, "-m", "deployments.apply"], operator.folder, environment, cwd=ROOT)
    assert program.process.wait(180) == 0, program.log.read_text()[-2000:]


def is_silent(operator: Operator, run: str) -> bool:
    """Whether `vlfilter doctor` would name it."""
    with temporary_settings({PREFECT_API_URL: operator.url}), get_client(sync_client=True) as client:
        try:
            return bool(silent(client, [client.read_flow_run(UUID(run))]))
        except httpx.HTTPError:  # its database has just been restarted: the next look
            return False


def were_found_dead(operator: Operator, *messages: str) -> bool:
    """Whether some run died without a word and was marked as crashed with one of these messages."""
    runs = operator.runs("score-shard-group") + operator.runs("score-shards")
    history = [state for run in runs for state in operator.ask("GET", f"/flow_run_states/?flow_run_id={run['id']}")]
    return any(state["type"] == "CRASHED" and (state["message"] or "").startswith(messages) for state in history)


def check_tables(here: World, params: ScoreParams) -> None:
    """One table a shard, each written once and as an undisturbed run writes it; no row twice or missing."""
    tables = read_tables(here, "scores")
    assert len(tables) == SHARDS
    undisturbed(here, params.model_copy(update={"output": f"s3://{BUCKET}/undisturbed"}))
    assert tables == read_tables(here, "undisturbed")
    keys = [key for table in tables.values() for key in table["key"].to_pylist()]
    assert sorted(keys) == [f"{i:09d}" for i in range(SHARDS * SAMPLES)]
    versions = here.s3.call_s3("list_object_versions", Bucket=BUCKET, Prefix="scores/toy/")["Versions"]
    written = [version["Key"] for version in versions if version["Key"].endswith(".parquet")]
    assert sorted(written) == sorted(set(written)), "a finished table was written again"
    assert {path: here.s3.info(path)["ETag"] for path in here.seen} == here.seen


def read_tables(here: World, folder: str) -> dict[str, pa.Table]:
    """Rows only: a footer says when and how fast."""
    paths = [path for path in here.s3.ls(f"{BUCKET}/{folder}/toy") if path.endswith(".parquet")]
    read = {path: pq.read_table(io.BytesIO(here.s3.cat_file(path))) for path in paths}
    return {path.rpartition("/")[2]: table.replace_schema_metadata(None) for path, table in read.items()}


def undisturbed(here: World, params: ScoreParams) -> None:
    """The same shards by the engine alone, straight to the S3 server."""
    command = [sys.executable, "-m", "benchmarks.programs.score_engine", params.model_dump_json()]
    environment = {**here.operator.environment, "AWS_ENDPOINT_URL": here.endpoint, "TOY_SECONDS": "0"}
    program = Program(command, here.operator.folder, environment, cwd=ROOT)
    assert program.process.wait(300) == 0
