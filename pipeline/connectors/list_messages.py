"""Rows of the output tables as messages of a stream: one JSON object a row, keyed by whom it is about.

A list's message has the user as its key and its `state_version` beside the payload, so a consumer
that keeps the highest version it has seen of each user drops what is stale or comes twice; where a
topic keeps only the newest message of each key, that is the current list. The message of an erased
user has no payload where the stream knows such messages, for that is what deletes a key there.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.connectors.identity import row_keys

#: Users whose last delivered version a sink remembers, so as not to send it again.
_REMEMBERED: Final = 200_000


class RowMessage(NamedTuple):
    """One row to send."""

    key: str  # the user; of other tables' rows their identity
    payload: bytes  # one JSON object
    version: int | None  # of a list
    tombstone: bool


class Delivered:
    """The versions of lists that are at their sink, of the users that were sent last."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()

    def is_news(self, message: RowMessage) -> bool:
        """Whether it is newer than what the sink has of its user."""
        return message.version is None or message.version > self._versions.get(message.key, -1)

    def note(self, message: RowMessage) -> None:
        """It is there."""
        if message.version is not None:
            self._versions[message.key] = max(message.version, self._versions.pop(message.key, -1))
            if len(self._versions) > _REMEMBERED:
                self._versions.popitem(last=False)


def messages_of(table: str, rows: pa.Table) -> Iterator[RowMessage]:
    """The rows' messages; lists with the older versions first, past lists (hindsight) left out."""
    if table != "recommendations":
        keys = row_keys(table, rows).to_pylist()
        for key, row in zip(keys, rows.to_pylist(), strict=True):
            yield RowMessage(key, _encoded(row), None, False)
        return
    current = rows.filter(pc.invert(rows["hindsight"])).drop_columns(["hindsight"])
    for row in current.sort_by([("state_version", "ascending"), ("list_hash", "ascending")]).to_pylist():
        yield RowMessage(row["user_id"], _encoded(row), row["state_version"], row["tombstone"])


def _encoded(row: dict[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=_time, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


def _time(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"no JSON for {type(value).__name__}")
    return value.isoformat().replace("+00:00", "Z")
