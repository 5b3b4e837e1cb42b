"""What several modules that use a cluster need beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.cluster.settings import ClusterSettings
from tests.flink.harness import cluster, need_flink
from tests.pipeline.connectors.services import KafkaService


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaService]:
    """A broker of a module's own, which its tests may restart."""
    server = pytest.importorskip("tests.servers.kafka", reason="confluent-kafka is missing")
    if reason := server.why_not():
        pytest.skip(reason)
    with server.kafka_server() as broker:
        yield KafkaService(broker)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSettings]:
    """A cluster of a module's own."""
    need_flink()
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
