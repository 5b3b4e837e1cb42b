"""An address to the source or sink behind it; the client of each is imported only when it is asked for."""

from __future__ import annotations

from pipeline.connectors.addresses import (
    BigQueryDataset,
    DeltaFolder,
    KafkaTopic,
    PostgresDatabase,
    PubsubTopic,
    SinkAddress,
    SourceAddress,
)
from pipeline.connectors.base import PullSource, TableSink
from pipeline.connectors.uris import parse_sink, parse_source, require


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


def check_source(address: SourceAddress) -> None:
    """Asks whether the source is there, and takes nothing from it. Raises InputError or DeploymentError."""
    if isinstance(address, KafkaTopic):
        require("kafka")
        from pipeline.connectors.kafka import partitions_of

        partitions_of(address)
        return
    require("pubsub")
    from pipeline.connectors.pubsub import check_subscription

    check_subscription(address)


def make_sink(address: SinkAddress | str) -> TableSink:
    """The sink, not opened yet. Raises UsageError, or DeploymentError where its extra is missing."""
    if isinstance(address, str):
        address = parse_sink(address)
    if isinstance(address, KafkaTopic | PubsubTopic):
        return _stream_sink(address)
    if isinstance(address, PostgresDatabase):
        require("postgresql")
        from pipeline.connectors.postgres import PostgresSink

        return PostgresSink(address)
    if isinstance(address, DeltaFolder):
        require("delta")
        from pipeline.connectors.delta import DeltaSink

        return DeltaSink(address)
    return _bigquery_sink(address)


def _stream_sink(address: KafkaTopic | PubsubTopic) -> TableSink:
    if isinstance(address, KafkaTopic):
        require("kafka")
        from pipeline.connectors.kafka_sink import KafkaSink

        return KafkaSink(address)
    require("pubsub")
    from pipeline.connectors.pubsub_sink import PubsubSink

    return PubsubSink(address)


def _bigquery_sink(address: BigQueryDataset) -> TableSink:
    require("bigquery")
    from pipeline.connectors.bigquery import BigQuerySink

    return BigQuerySink(address)
