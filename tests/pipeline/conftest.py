"""Real services for tests, on loopback, and an index that is learned already: one of each a session."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.connectors.services import Channel, KafkaService, PubsubService
from tests.pipeline.live.feedback_log import run, shop_log, write_log
from tests.servers.processes import ServerMissing


def _needs(module: str, extra: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        pytest.skip(f"{module} is missing: pip install 'livelist[{extra}]', or make test-all")


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaService]:
    """A running broker."""
    _needs("confluent_kafka", "kafka")
    from tests.servers.kafka import kafka_server

    try:
        with kafka_server({"message.max.bytes": "400000"}) as server:
            yield KafkaService(server)
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def pubsub() -> Iterator[PubsubService]:
    """A running Pub/Sub, which the environment names."""
    _needs("google.cloud.pubsub_v1", "gcp")
    from tests.servers.pubsub import pubsub_server

    try:
        with pubsub_server() as server:
            yield PubsubService(server)
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of an S3 store."""
    from tests.servers.object_store import object_store

    try:
        with object_store() as address:
            yield address
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URI of a running PostgreSQL."""
    _needs("psycopg", "postgres")
    from tests.servers.postgres import postgres_server

    try:
        with postgres_server() as server:
            yield server.uri
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["kafka", "pubsub"])
def channel(request: pytest.FixtureRequest) -> Channel:
    """A fresh topic of each service."""
    made: Channel = request.getfixturevalue(request.param).channel()
    return made


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a bounded run over the shop's log, without a model; only to be read."""
    folder = tmp_path_factory.mktemp("learned")
    run(folder / "out", write_log(folder / "log.jsonl", shop_log()), model="none")
    return folder / "out"
