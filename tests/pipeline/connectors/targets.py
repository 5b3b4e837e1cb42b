"""What a reader of each sink sees: the current lists, and how many rows a history has."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any, Protocol

from pipeline.connectors.base import TableSink
from pipeline.connectors.registry import make_sink
from tests.pipeline.connectors.lists import Row
from tests.pipeline.connectors.services import KafkaService, PubsubService

_names = itertools.count(1)


class Target(Protocol):
    """A sink and its reader."""

    uri: str
    keyed: bool  # rows written again stand once; a stream shows them again under the same version

    def current(self) -> list[Row]:
        """(user_id, rank, item_id, state_version) as `tests.pipeline.connectors.lists.current` says it."""

    def count(self, table: str) -> int: ...


class PostgresTarget:
    """A schema of its own."""

    keyed = True

    def __init__(self, server: str) -> None:
        self._server = server
        self._schema = f"lists_{next(_names)}"
        self.uri = f"{server}?schema={self._schema}"

    def current(self) -> list[Row]:
        columns = "user_id, rank, item_id, state_version"
        return sorted(self.rows(f"SELECT {columns} FROM {self._schema}.recommendations_latest"))

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {self._schema}.{table}")[0][0])

    def rows(self, query: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self._server) as connection:
            return list(connection.execute(query))


class DeltaTarget:
    """A folder; read by DuckDB."""

    keyed = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.uri = f"delta://{folder}"

    def current(self) -> list[Row]:
        return sorted(self._query("recommendations_latest", "user_id, rank, item_id, state_version"))

    def count(self, table: str) -> int:
        return int(self._query(table, "count(*)")[0][0])

    def _query(self, table: str, columns: str) -> list[Any]:
        import duckdb
        from deltalake import DeltaTable

        files = [path.removeprefix("file://") for path in DeltaTable(str(self._folder / table)).file_uris()]
        if not files:
            return [] if columns != "count(*)" else [(0,)]
        return duckdb.execute(f"SELECT {columns} FROM read_parquet(?)", [files]).fetchall()


class DeltaStoreTarget:
    """A prefix in a bucket; read by DeltaTable as Arrow."""

    keyed = True

    def __init__(self, bucket: str) -> None:
        self._root = f"{bucket}/lists-{next(_names)}"
        self.uri = f"delta+s3://{self._root}"

    def current(self) -> list[Row]:
        rows = self._read("recommendations_latest").to_pylist()
        return sorted((row["user_id"], row["rank"], row["item_id"], row["state_version"]) for row in rows)

    def count(self, table: str) -> int:
        return int(self._read(table).num_rows)

    def _read(self, table: str) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(f"s3://{self._root}/{table}").to_pyarrow_table()


class StreamTarget:
    """What a consumer makes of a stream that keeps the highest version of each user."""

    keyed = False
    uri: str

    def __init__(self) -> None:
        self._lists: dict[str, tuple[int, list[Row]]] = {}
        self.seen: list[tuple[str, int]] = []

    def apply(self, user_id: str, version: int, payload: bytes | None) -> None:
        self.seen.append((user_id, version))
        if version <= self._lists.get(user_id, (-1, []))[0]:
            return
        row = json.loads(payload) if payload else {"items": []}
        assert row.get("user_id", user_id) == user_id
        items = [(user_id, item["rank"], item["item_id"], version) for item in row["items"]]
        self._lists[user_id] = version, items

    def current(self) -> list[Row]:
        self.consume()
        return sorted(row for _, rows in self._lists.values() for row in rows)

    def consume(self) -> None: ...

    def count(self, table: str) -> int:
        raise NotImplementedError("a stream is not counted")


class KafkaTarget(StreamTarget):
    """A topic read from its beginning."""

    def __init__(self, service: KafkaService) -> None:
        super().__init__()
        from confluent_kafka import Consumer, TopicPartition

        self.topic = f"lists-{next(_names)}"
        service.server.create_topic(self.topic, 1, {"cleanup.policy": "compact"})
        self.uri = f"kafka://{service.server.address}/{self.topic}"
        settings = {"bootstrap.servers": service.server.address, "group.id": "reader", "log_level": 0}
        self._consumer = Consumer({**settings, "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(self.topic, 0, 0)])

    def consume(self) -> None:
        from confluent_kafka import TopicPartition

        place = TopicPartition(self.topic, 0)
        deadline = time.monotonic() + 60
        end = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        while max(0, self._consumer.position([place])[0].offset) < end:
            assert time.monotonic() < deadline
            for message in self._consumer.consume(1000, 0.2):
                headers = dict(message.headers())
                self.apply(message.key().decode(), int(headers["state_version"]), message.value())


class PubsubTarget(StreamTarget):
    """A topic with a subscription that was there from the beginning."""

    def __init__(self, service: PubsubService) -> None:
        super().__init__()
        from tests.servers.pubsub import create_subscription

        name = f"lists-{next(_names)}"
        create_subscription(service.project, name, f"{name}-sub")
        self.uri = f"pubsub://{service.project}/topics/{name}"
        self._path = f"projects/{service.project}/subscriptions/{name}-sub"

    def consume(self) -> None:
        from google.cloud import pubsub_v1

        with pubsub_v1.SubscriberClient() as client:
            empty = 0
            while empty < 2:
                pull = {"subscription": self._path, "max_messages": 1000, "return_immediately": True}
                received = client.pull(request=pull, timeout=30).received_messages
                empty = 0 if received else empty + 1
                for each in received:
                    attributes = each.message.attributes
                    assert attributes["tombstone"] == str(json.loads(each.message.data)["tombstone"]).lower()
                    user_id = json.loads(each.message.data)["user_id"]
                    self.apply(user_id, int(attributes["state_version"]), each.message.data)
                if received:
                    acked = [each.ack_id for each in received]
                    client.acknowledge(subscription=self._path, ack_ids=acked, timeout=30)


def opened_sink(uri: str) -> TableSink:
    """The sink behind a URI, connected."""
    sink = make_sink(uri)
    sink.open()
    return sink
