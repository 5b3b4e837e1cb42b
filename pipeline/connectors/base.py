"""The two contracts of the outside world, free of Beam: a source that is pulled, a sink that is idempotent.

One implementation of each serves every engine: on one machine a spool pulls the source and acknowledges
what is on disk; on a cluster an UnboundedSource wraps it and acknowledges what a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from models.records import Micros


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came."""

    payload: bytes
    position: (
        str  # the same at every redelivery, e.g. "kafka:feedback/3:0000000042"; sorts within a partition
    )
    publish_time: Micros  # the broker's clock; 0 where it tells none
    receipt: str  # what `PullSource.commit` takes to acknowledge it


class PullSource(Protocol):
    """A subscription or a topic with a consumer group; one thread calls it."""

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        """Connects, and checks that the subscription or topic is there.

        `resume_from` gives the next offset of partitions that a checkpoint knows better than the
        broker does; sources without offsets ignore it. Raises InputError or DeploymentError, in
        bounded time, with what was expected, what came and what to do.
        """

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        """What has come, at most so many, as soon as there is one; empty after the timeout.

        Survives a broker that restarts: it reconnects by itself, and says so once in the log.
        """

    def commit(self, receipts: Sequence[str]) -> None:
        """Acknowledges messages whose effect is durable: they do not come again, as far as the broker can."""

    def backlog(self) -> int | None:
        """Messages that wait at the broker, None where it cannot be asked."""

    def oldest_held(self) -> Micros | None:
        """When the oldest message that came and is not committed was published; None: there is none.

        None too where a source does not take messages off others, and so does not hold them up.
        """

    def close(self) -> None:
        """Gives back what is not committed, at once."""


class TableSink(Protocol):
    """A place that rows of the output tables go to. Idempotent: writing rows again changes nothing.

    `recommendations_latest` is keyed by user_id and guarded by state_version: rows of a version at or
    below the one that stands are refused by the sink's own statement. The others are keyed by their
    identity columns, or append-only where the sink has no keys.
    """

    def open(self) -> None:
        """Connects and makes what is missing. Raises OutputError in bounded time."""

    def write(self, table: str, rows: pa.Table) -> None:
        """Durably, in one transaction a call; tries again with backoff for a bounded time, then OutputError.

        A caller that catches it keeps the rows and calls again.
        """

    def close(self) -> None:
        """Frees the connection."""
