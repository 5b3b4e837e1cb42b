"""PubsubSink: lists to a topic, in batches or ordered by user; other tables to topics beside it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any, Final

import pyarrow as pa
from google.api_core.exceptions import Forbidden, InvalidArgument
from google.cloud import pubsub_v1

from models.errors import OutputError
from pipeline.connectors.addresses import PubsubTopic
from pipeline.connectors.list_messages import Delivered, RowMessage, messages_of
from pipeline.connectors.pubsub_client import ANSWER_SECONDS, PUBSUB_ERRORS, endpoint, explain
from pipeline.connectors.retrying import RefusedRowsError, try_again

_MOST_BYTES: Final = 10_000_000
_MOST_KEY_BYTES: Final = 1024
_IN_FLIGHT: Final = 2_000


class _NotPublished(Exception):
    """Some messages were not taken; publishing them again may help."""


class PubsubSink:
    """A `TableSink`. Attributes carry `table`, and of lists `state_version` and `tombstone`."""

    def __init__(self, address: PubsubTopic) -> None:
        self._address = address
        self._where = f"{endpoint()}, topic {address.topic}"
        self._delivered = Delivered()
        self._publisher: Any = None

    def open(self) -> None:
        """Connects, and checks that the topics are there."""
        options = pubsub_v1.types.PublisherOptions(
            enable_message_ordering=self._address.ordered,
            retry=None,  # ours
            timeout=ANSWER_SECONDS,
        )
        batches = pubsub_v1.types.BatchSettings(max_messages=500, max_latency=0.01)
        try:
            publisher = pubsub_v1.PublisherClient(batch_settings=batches, publisher_options=options)
            for table in self._address.tables:
                self._check(publisher, self._path(table))
        except PUBSUB_ERRORS as error:
            raise self._explained(error) from None
        self._publisher = publisher

    def write(self, table: str, rows: pa.Table) -> None:
        """Returns when the service has taken every row."""
        if table not in self._address.tables:
            return
        left = [message for message in messages_of(table, rows) if self._delivered.is_news(message)]
        try_again(
            lambda: self._send(table, left),
            (_NotPublished,),
            self._address.timeout_seconds,
            f"{self._where}: {table} cannot be published",
        )

    def close(self) -> None:
        """Frees the connection; nothing is on its way, for `write` waits."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.stop()

    def _path(self, table: str) -> str:
        name = self._address.topic if table == "recommendations" else f"{self._address.topic}.{table}"
        return f"projects/{self._address.project}/topics/{name}"

    def _check(self, publisher: Any, path: str) -> None:
        try:
            publisher.get_topic(topic=path, retry=None, timeout=ANSWER_SECONDS)
        except Forbidden:
            pass  # a publisher may publish and yet not look: then publishing tells

    def _explained(self, error: BaseException) -> OutputError:
        topics = ", ".join(self._path(table) for table in self._address.tables)
        remedy = "create it: gcloud pubsub topics create NAME"
        return OutputError(str(explain(error, f"topic {topics}", remedy, lambda: "")))

    def _send(self, table: str, left: list[RowMessage]) -> None:
        """Publishes and takes out of `left` what was taken."""
        missing: list[RowMessage] = []
        errors: list[BaseException] = []
        for start in range(0, len(left), _IN_FLIGHT):
            part = left[start : start + _IN_FLIGHT]
            for message, error in zip(part, self._publish(self._path(table), part), strict=True):
                if error is None:
                    self._delivered.note(message)
                else:
                    missing.append(message)
                    errors.append(error)
        left[:] = missing
        self._raise_any(errors)

    def _publish(self, path: str, messages: Sequence[RowMessage]) -> list[BaseException | None]:
        """Of each message why it was not taken."""
        keys = [_ordering_key(message) if self._address.ordered else "" for message in messages]
        published = [self._published(path, *pair) for pair in zip(messages, keys, strict=True)]
        wait([each for each in published if isinstance(each, Future)], self._address.timeout_seconds)
        errors: list[BaseException | None] = []
        for each, key in zip(published, keys, strict=True):
            error = _outcome(each)
            if error is not None and key:
                self._publisher.resume_publish(path, key)  # a failure stops its key
            errors.append(error)
        return errors

    def _published(self, path: str, message: RowMessage, key: str) -> Any:
        if len(message.payload) > _MOST_BYTES:
            return RefusedRowsError(
                f"{self._where}: a message of {len(message.payload)} bytes, at most 10 MB fit"
            )
        attributes = {"table": path.rpartition("/")[2]}
        if message.version is not None:
            attributes |= {
                "state_version": str(message.version),
                "tombstone": str(message.tombstone).lower(),
            }
        return self._publisher.publish(path, message.payload, ordering_key=key, **attributes)

    def _raise_any(self, errors: list[BaseException]) -> None:
        if not errors:
            return
        for error in errors:
            if isinstance(error, RefusedRowsError):
                raise error
            if isinstance(error, InvalidArgument):
                raise RefusedRowsError(f"{self._where}: {error.message}")
        raise _NotPublished(f"{len(errors)} messages were not taken: {errors[0]}")


def _outcome(published: Any) -> BaseException | None:
    if isinstance(published, BaseException):
        return published
    if not published.done():
        return TimeoutError("no answer")
    error: BaseException | None = published.exception(0)
    return error


def _ordering_key(message: RowMessage) -> str:
    return (
        message.key if len(message.key.encode("utf-8", "replace")) <= _MOST_KEY_BYTES else message.key[:256]
    )
