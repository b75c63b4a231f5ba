"""Fixtures shared by all rooms."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import make_shards
from tests.llm.vendor import vendor
from tests.prefect_server import prefect_api
from tests.toy import NAME
from vlfilter.scoring.params import ScoreParams

# The same examples everywhere, and no example fails for being slow on a busy machine.
settings.register_profile("vlfilter", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vlfilter")

__all__ = ["prefect_api", "vendor"]


def _forget_connections() -> None:
    """A file system that was made for another endpoint must not be used again."""
    import s3fs

    from vlfilter.data import storage

    storage._filesystem.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 server in this process, on 127.0.0.1."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket (`s3://test-…`); child processes find the server by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    _forget_connections()

    from vlfilter.data.storage import filesystem

    url = f"s3://test-{uuid.uuid4().hex[:12]}"
    fs, bucket = filesystem(url)
    fs.mkdir(bucket)
    yield url
    _forget_connections()


@pytest.fixture
def toy_run(tmp_path: Path) -> Callable[[int, int], ScoreParams]:
    """Makes shards of pairs (how many, samples in each) and the parameters that score them with the toy."""

    def make(shards: int, samples: int) -> ScoreParams:
        make_shards(tmp_path / "data", shards, samples)
        (tmp_path / "toy.txt").write_text("1.0")
        return ScoreParams(
            shards=str(tmp_path / "data"),
            output=str(tmp_path / "out"),
            scorer=[NAME],
            model={NAME: str(tmp_path / "toy.txt")},
        )

    return make
