"""What several modules that use a cluster need beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipeline.connectors.services import KafkaService


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaService]:
    """A broker of a module's own, which its tests may restart."""
    server = pytest.importorskip("tests.servers.kafka", reason="confluent-kafka is missing")
    if reason := server.why_not():
        pytest.skip(reason)
    broker = server.KafkaServer(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield KafkaService(broker)
    broker.kill()
