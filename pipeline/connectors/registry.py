"""An address to the source or sink behind it; the client of each is imported only when it is asked for."""

from __future__ import annotations

from pipeline.connectors.addresses import KafkaTopic, SourceAddress
from pipeline.connectors.base import PullSource
from pipeline.connectors.uris import parse_source, require


def make_source(address: SourceAddress | str) -> PullSource:
    """The source, not opened yet. Raises UsageError, or DeploymentError where its extra is missing."""
    if isinstance(address, str):
        address = parse_source(address)
    if isinstance(address, KafkaTopic):
        require("kafka")
        from pipeline.connectors.kafka import KafkaSource

        return KafkaSource(address)
    require("pubsub")
    from pipeline.connectors.pubsub import PubsubSource

    return PubsubSource(address)
