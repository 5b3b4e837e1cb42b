"""How fresh the lists of a job on a cluster are, from the rows that its workers leave."""

from __future__ import annotations

from typing import Final, NamedTuple

import pyarrow as pa

from models.records import MICROS_PER_SECOND
from pipeline.live.freshness import AgeHistogram

_WAITING: Final = 20_000  # events whose list is not seen yet


class _Event(NamedTuple):
    at: float  # seconds since 1970
    words: bool


class ListAges:
    """From an event to the first list that takes it in; not of lists that showed nothing new.

    An event with words has its row when they are scored, so its list is the one that knows them.
    """

    def __init__(self) -> None:
        self.behaviour = AgeHistogram()
        self.words = AgeHistogram()
        self._waiting: dict[tuple[str, str], _Event] = {}

    def accepted(self, rows: pa.Table) -> None:
        """Rows of `scored_feedback`."""
        times = rows["event_time"].cast(pa.int64()).to_pylist()
        columns = (rows[name].to_pylist() for name in ("user_id", "event_id", "polarity"))
        for at, user_id, event_id, polarity in zip(times, *columns, strict=True):
            self._waiting[user_id, event_id] = _Event(at / MICROS_PER_SECOND, polarity is not None)
        for old in list(self._waiting)[: max(0, len(self._waiting) - _WAITING)]:
            del self._waiting[old]

    def listed(self, rows: pa.Table) -> None:
        """Rows of `recommendations`."""
        times = rows["written_time"].cast(pa.int64()).to_pylist()
        columns = (rows[name].to_pylist() for name in ("user_id", "trigger_event_ids"))
        for written, user_id, triggers in zip(times, *columns, strict=True):
            for event_id in triggers:
                event = self._waiting.pop((user_id, event_id), None)
                if event is not None and written is not None:
                    ages = self.words if event.words else self.behaviour
                    ages.observe(max(0.0, written / MICROS_PER_SECOND - event.at))
