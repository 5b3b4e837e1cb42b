"""How fresh lists are: each event's age when the bundle that took it in is done.

By then every list that the event changed is on disk, and every list that it did not change was made
and found to show what stands. So all accepted feedback is measured, none of it by its luck.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from models.records import MICROS_PER_SECOND
from models.tables import ScoredRow

#: Upper bounds of the buckets in seconds, each a fifth above the one before.
BOUNDS: Final = tuple(round(0.01 * 1.2**place, 4) for place in range(52))
QUANTILES: Final = (0.5, 0.95, 0.99)
_RECENT: Final = 20_000  # events whose age since their arrival is remembered


class AgeHistogram:
    """How many events were at most how old, in seconds. It only grows, as Prometheus wants it."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0  # the sum of all ages

    def observe(self, age: float) -> None:
        """Counts one event."""
        self._counts[bisect_left(BOUNDS, age)] += 1
        self.seconds += age

    def cumulative(self) -> list[int]:
        """Events at most as old as each bound; the last count is of all."""
        return list(accumulate(self._counts))


class EventFreshness:
    """Of one run. One thread calls `served`; any thread reads."""

    def __init__(self) -> None:
        self.behaviour = AgeHistogram()  # events without words, or without a model
        self.words = AgeHistogram()  # to the list that knows the score of the text
        self.recent: deque[float] = deque(maxlen=_RECENT)  # seconds since the bundle's first record was read
        self._unlisted: list[ScoredRow] = []

    def served(self, rows: Sequence[ScoredRow], began: float, now: float, unlisted: bool) -> None:
        """A bundle that began at `began` is done at `now`, both in seconds since 1970.

        `unlisted`: some users have no list yet, for the index knows no item. What came in then is
        measured when they have.
        """
        self.recent.extend([now - began] * len(rows))
        if unlisted:
            self._unlisted.extend(rows)
            return
        late, self._unlisted = self._unlisted, []
        for row in (*late, *rows):
            ages = self.behaviour if row.score is None else self.words
            ages.observe(max(0.0, now - row.event_time / MICROS_PER_SECOND))

    def recent_quantiles(self) -> tuple[float, ...] | None:
        """p50, p95 and p99 of recent ages since arrival."""
        samples = sorted(self.recent.copy())
        return tuple(samples[int(place * len(samples))] for place in QUANTILES) if samples else None


def quantile(cumulative: Sequence[float], place: float) -> float:
    """The age that the share `place` of the events does not exceed, as Prometheus computes it.

    Interpolated within its bucket; infinite beyond the last bound, not a number without events.
    """
    total = cumulative[-1] if cumulative else 0
    if not total:
        return float("nan")
    rank = place * total
    at = bisect_left(cumulative, rank)
    if at >= len(BOUNDS):
        return float("inf")
    below, low = (cumulative[at - 1], BOUNDS[at - 1]) if at else (0, 0.0)
    return low + (BOUNDS[at] - low) * (rank - below) / (cumulative[at] - below)


def quantiles_between(before: Iterable[float], after: Iterable[float]) -> tuple[float, ...]:
    """p50, p95 and p99 of the events that were counted between two looks; empty without any."""
    gained = [now - then for then, now in zip(before, after, strict=True)]
    return tuple(quantile(gained, place) for place in QUANTILES) if gained and gained[-1] else ()
