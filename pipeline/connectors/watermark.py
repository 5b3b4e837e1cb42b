"""How far event time has come, by what arrived: bounded out-of-orderness, partitions that may be idle."""

from __future__ import annotations

from collections.abc import Hashable

from models.records import MICROS_PER_SECOND, Micros


class Watermark:
    """A lower bound on the event times still to come, as far as anybody can tell; it never goes back.

    Each partition is as far as its newest event time, less `out_of_order_seconds`; the slowest one
    counts. A partition that brought nothing for `idle_seconds` holds nobody up, and when all are
    idle the wall clock stands in for them. Event times ahead of the wall clock count as the wall
    clock, or one sender's broken clock would make everybody else late.
    """

    def __init__(self, out_of_order_seconds: float, idle_seconds: float, now: Micros) -> None:
        self._slack = int(out_of_order_seconds * MICROS_PER_SECOND)
        self._idle = int(idle_seconds * MICROS_PER_SECOND)
        self._newest: dict[Hashable, tuple[Micros, Micros]] = {}  # partition -> event time, arrival
        self._last = now
        self._value: Micros | None = None

    def observe(self, partition: Hashable, event_time: Micros, now: Micros) -> None:
        """A message of a partition arrived."""
        before = self._newest.get(partition)
        newest = min(event_time, now)
        self._newest[partition] = newest if before is None else max(newest, before[0]), now
        self._last = now

    def value(self, now: Micros) -> Micros | None:
        """None before the first message, or until that long nothing came."""
        fresh = [time for time, arrived in self._newest.values() if now - arrived < self._idle]
        reached = min(fresh) if fresh else now if now - self._last >= self._idle else None
        if reached is not None:
            bound = reached - self._slack
            self._value = bound if self._value is None else max(bound, self._value)
        return self._value
