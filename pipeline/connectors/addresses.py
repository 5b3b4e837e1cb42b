"""Where sources and sinks are, as typed addresses; `pipeline.connectors.uris` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from models.tables import TABLES

#: The tables that bundles write; the current lists are made of `recommendations` by each sink itself.
SINK_TABLES: Final = tuple(name for name in TABLES if name != "recommendations_latest")
#: What a stream of messages carries unless `tables` says otherwise: the lists.
STREAM_TABLES: Final = ("recommendations",)


@dataclass(frozen=True, slots=True)
class PubsubSubscription:
    """A source. So many messages and bytes are held unacknowledged at most, then the pull pauses."""

    project: str
    subscription: str
    max_outstanding: int = 20_000
    max_outstanding_bytes: int = 256 << 20
    texts: str = ""  # another subscription to the same topic, which a reader of words alone pulls
    known_as: str = ""  # the subscription that messages are told by, where it is not this one

    @property
    def path(self) -> str:
        """The resource name."""
        return self._path(self.subscription)

    @property
    def known_path(self) -> str:
        """That of the subscription by which messages are told."""
        return self._path(self.known_as or self.subscription)

    def for_texts(self) -> PubsubSubscription:
        """The subscription `texts`, whose messages are told as those of this one: they are the same."""
        return replace(self, subscription=self.texts, texts="", known_as=self.subscription)

    def _path(self, name: str) -> str:
        return f"projects/{self.project}/subscriptions/{name}"


@dataclass(frozen=True, slots=True)
class PubsubTopic:
    """A sink: lists go to the topic itself, another table T to TOPIC.T.

    `ordered` gives each user an ordering key. Then every user's messages are a request of their
    own, which costs most of the throughput; without it the versions tell what is stale.
    """

    project: str
    topic: str
    tables: tuple[str, ...] = STREAM_TABLES
    timeout_seconds: float = 60.0
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A source where it has a group, a sink where it has none; as a sink table T goes to TOPIC.T."""

    servers: str  # HOST:PORT[,HOST:PORT]
    topic: str
    group: str = ""
    start: str = "earliest"  # where a group without offsets begins: earliest or latest
    config_file: str = ""  # KEY=VALUE lines of librdkafka's properties: the place for credentials
    properties: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)  # librdkafka's
    tables: tuple[str, ...] = STREAM_TABLES
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A sink. `dsn` is what libpq takes; it may hold a password, so it is never shown."""

    dsn: str = field(repr=False)
    schema: str = "livelist"
    tables: tuple[str, ...] = SINK_TABLES
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class DeltaFolder:
    """A sink: one Delta table a table, below a folder or the URL of an object store."""

    root: str
    tables: tuple[str, ...] = SINK_TABLES
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class BigQueryDataset:
    """A sink."""

    project: str
    dataset: str
    location: str = ""
    tables: tuple[str, ...] = SINK_TABLES
    timeout_seconds: float = 120.0


SourceAddress: TypeAlias = PubsubSubscription | KafkaTopic
SinkAddress: TypeAlias = PubsubTopic | KafkaTopic | PostgresDatabase | DeltaFolder | BigQueryDataset
