"""Counts and tone per window of event time, exact in integers, and the alerts read from them.

Polarity is summed in steps of 1/10,000, so that sums do not depend on order or partition.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from models.records import MICROS_PER_DAY, Micros
from models.tables import AlertRow, ScoredRow, TrendRow

SubjectKind = Literal["item", "topic"]

#: A subject's words became clearly worse; it came up clearly more often; stars and words disagree often.
ALERT_KINDS: Final[tuple[str, ...]] = ("polarity_drop", "surge", "conflict_rate")

POLARITY_STEPS: Final = 10_000
_STREAM: Final = ("stream", "all")


class TrendKey(NamedTuple):
    """What is counted together; windows are [start, start + length)."""

    window_start: Micros
    subject_kind: SubjectKind
    subject: str


class TrendSum(NamedTuple):
    """Integer sums; `polarity` in 1e-4 and `polarity_squares` in 1e-8."""

    events: int = 0
    texts: int = 0
    polarity: int = 0
    polarity_squares: int = 0
    rated_texts: int = 0
    conflicts: int = 0


def add_sums(one: TrendSum, other: TrendSum) -> TrendSum:
    """The sum of both; commutes and associates exactly."""
    return TrendSum(*map(int.__add__, one, other))


def trend_parts(row: ScoredRow, window: Micros) -> list[tuple[TrendKey, TrendSum]]:
    """What one scored event adds: to its item, and to each topic of its words.

    `window` is the window's length; windows are aligned to 1970-01-01T00:00:00Z.
    """
    start = row.event_time - row.event_time % window
    part = _part_of(row)
    keys: list[TrendKey] = [] if row.item_id is None else [TrendKey(start, "item", row.item_id)]
    topics = () if row.score is None else row.score.topics
    keys += [TrendKey(start, "topic", name) for name in sorted({name for name, _ in topics})]
    return [(key, part) for key in keys]


def _part_of(row: ScoredRow) -> TrendSum:
    if row.score is None:
        return TrendSum(events=1)
    polarity = round(row.score.polarity * POLARITY_STEPS)
    return TrendSum(1, 1, polarity, polarity * polarity, int(row.rating is not None), int(row.conflict))


def merge_trends(into: dict[TrendKey, TrendSum], parts: Iterable[tuple[TrendKey, TrendSum]]) -> None:
    """Adds `parts` to the sums of `into`."""
    for key, part in parts:
        known = into.get(key)
        into[key] = part if known is None else add_sums(known, part)


def trend_row(key: TrendKey, total: TrendSum, window: Micros) -> TrendRow:
    """The published row of one window and subject."""
    mean = deviation = None
    if total.texts:
        mean = total.polarity / total.texts / POLARITY_STEPS
        spread = total.polarity_squares * total.texts - total.polarity**2  # integers: no cancellation
        deviation = math.sqrt(spread) / total.texts / POLARITY_STEPS
    return TrendRow(
        key.window_start, key.window_start + window, key.subject_kind, key.subject, total.events, total.texts,
        mean, deviation, total.rated_texts, total.conflicts,
    )  # fmt: skip


def trend_rows(sums: dict[TrendKey, TrendSum], window: Micros) -> list[TrendRow]:
    """The rows of all windows and subjects, in order."""
    return [trend_row(key, sums[key], window) for key in sorted(sums)]


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """When a trend deserves attention. All rules compare a window with the windows before it."""

    window: Micros = MICROS_PER_DAY  # length of the trend rows' windows
    history: int = 28  # windows looked back at
    min_history: int = 3  # windows of the stream before any alert
    min_texts: int = 10  # in the window, and before it
    polarity_drop: float = 0.25  # of the mean, at least
    polarity_z: float = 3.0  # standard errors of the difference
    min_count: int = 20
    surge_ratio: float = 2.0  # against what was expected
    surge_z: float = 5.0  # counts of people cluster more than Poisson's
    conflict_rate: float = 0.2  # of texts with stars
    conflict_z: float = 3.0
    min_rated_texts: int = 30


def detect_alerts(rows: Sequence[TrendRow], config: AlertConfig | None = None) -> list[AlertRow]:
    """The alerts of published trend rows, in (time, kind, subject) order.

    - `polarity_drop`: the mean polarity of a subject's texts fell by `polarity_drop` or more below
      that of its earlier texts, by `polarity_z` standard errors (Welch).
    - `surge`: a subject came up `surge_ratio` times as often as expected from its earlier share of
      the traffic, by `surge_z` (conditional Poisson test, so a short history counts as unsure).
      The stream as a whole is tested against its earlier windows.
    - `conflict_rate`: more than `conflict_rate` of the texts with stars disagree with their stars.
    """
    config = config or AlertConfig()
    history = _History(rows, config)
    alerts = [alert for row in rows for alert in _row_alerts(row, history, config)]
    for window in history.windows:
        alerts += _stream_alerts(window, history, config)
    return sorted(alerts, key=lambda alert: (alert.time, alert.kind, alert.subject_kind, alert.subject))


class _Past(NamedTuple):
    """What is known of a subject from its earlier windows."""

    events: int
    texts: int
    polarity: float  # sum
    squares: float  # sum


class _History:
    def __init__(self, rows: Sequence[TrendRow], config: AlertConfig) -> None:
        self._config = config
        self._rows: dict[tuple[str, str], list[TrendRow]] = defaultdict(list)
        self._traffic: dict[str, dict[Micros, int]] = {"item": {}, "topic": {}}
        self._exposure: dict[tuple[str, Micros], tuple[int, int]] = {}
        self._rated: dict[Micros, tuple[int, int]] = {}
        for row in sorted(rows, key=lambda row: row.window_start):
            self._rows[row.subject_kind, row.subject].append(row)
            traffic = self._traffic[row.subject_kind]
            traffic[row.window_start] = traffic.get(row.window_start, 0) + row.count
            if row.subject_kind == "item":  # an event has one item, and may have several topics
                texts, conflicts = self._rated.get(row.window_start, (0, 0))
                self._rated[row.window_start] = (texts + row.rated_texts, conflicts + row.conflicts)
        starts = [start for traffic in self._traffic.values() for start in traffic]
        self.windows = sorted(set(starts))
        self._first = min(starts, default=0)

    def length(self, window: Micros) -> int:
        """Windows before `window` that are looked at, empty ones included."""
        return min(self._config.history, (window - self._first) // self._config.window)

    def _start(self, window: Micros) -> Micros:
        return window - self.length(window) * self._config.window

    def past(self, row: TrendRow) -> _Past:
        start = self._start(row.window_start)
        rows = [
            old
            for old in self._rows[row.subject_kind, row.subject]
            if start <= old.window_start < row.window_start
        ]
        moments = [(old.texts, old.mean_polarity or 0.0, old.polarity_deviation or 0.0) for old in rows]
        return _Past(
            sum(old.count for old in rows),
            sum(old.texts for old in rows),
            math.fsum(texts * mean for texts, mean, _ in moments),
            math.fsum(texts * (mean**2 + deviation**2) for texts, mean, deviation in moments),
        )

    def traffic(self, subject_kind: str, window: Micros) -> tuple[int, int]:
        """Events of this kind of subject in the window, and in the windows before it."""
        known = self._exposure.get((subject_kind, window))
        if known is None:
            counts, start = self._traffic[subject_kind], self._start(window)
            known = counts.get(window, 0), sum(n for at, n in counts.items() if start <= at < window)
            self._exposure[subject_kind, window] = known
        return known

    def rated(self, window: Micros) -> tuple[int, int]:
        """Texts with stars in the window, and those in conflict."""
        return self._rated.get(window, (0, 0))


def _row_alerts(row: TrendRow, history: _History, config: AlertConfig) -> Iterator[AlertRow]:
    if history.length(row.window_start) < config.min_history or row.count < min(
        config.min_texts, config.min_count
    ):
        return
    past = history.past(row)
    subject = (row.subject_kind, row.subject)
    drop = _polarity_drop(row, past, config)
    if drop is not None:
        yield _alert("polarity_drop", subject, row.window_start, drop, config)
    now, before = history.traffic(row.subject_kind, row.window_start)
    surge = _surge(row.count, past.events, now / (now + before), config)
    if surge is not None:
        yield _alert("surge", subject, row.window_start, surge, config)


def _stream_alerts(window: Micros, history: _History, config: AlertConfig) -> Iterator[AlertRow]:
    length = history.length(window)
    now, before = history.traffic("item", window)
    surge = _surge(now, before, 1 / (length + 1), config) if length >= config.min_history else None
    if surge is not None:
        yield _alert("surge", _STREAM, window, surge, config)
    conflict = _conflict(*history.rated(window), config)
    if conflict is not None:
        yield _alert("conflict_rate", _STREAM, window, conflict, config)


def _polarity_drop(row: TrendRow, past: _Past, config: AlertConfig) -> dict[str, float] | None:
    if min(row.texts, past.texts) < config.min_texts or row.mean_polarity is None:
        return None
    earlier = past.polarity / past.texts
    # The floor keeps a handful of equal texts from being infinitely sure.
    variance = max((row.polarity_deviation or 0.0) ** 2, 0.01)
    earlier_variance = max(past.squares / past.texts - earlier**2, 0.01)
    z = (row.mean_polarity - earlier) / math.sqrt(variance / row.texts + earlier_variance / past.texts)
    if earlier - row.mean_polarity < config.polarity_drop or z > -config.polarity_z:
        return None
    return {
        "mean_polarity": row.mean_polarity, "earlier_mean_polarity": earlier,
        "texts": row.texts, "earlier_texts": past.texts, "z": z,
    }  # fmt: skip


def _surge(count: int, earlier: int, share: float, config: AlertConfig) -> dict[str, float] | None:
    """Given `count + earlier` events in all, `count` is binomial with the window's share of exposure."""
    if count < config.min_count or share >= 1:
        return None
    total = count + earlier
    z = (count - total * share) / math.sqrt(total * share * (1 - share))
    expected = earlier * share / (1 - share)
    if count < config.surge_ratio * expected or z < config.surge_z:
        return None
    return {"count": count, "expected": expected, "z": z}


def _conflict(texts: int, conflicts: int, config: AlertConfig) -> dict[str, float] | None:
    if texts < config.min_rated_texts:
        return None
    limit, rate = config.conflict_rate, conflicts / texts
    z = (rate - limit) / math.sqrt(limit * (1 - limit) / texts)
    if z < config.conflict_z:
        return None
    return {"conflict_rate": rate, "limit": limit, "rated_texts": texts, "z": z}


def _alert(
    kind: str, subject: tuple[str, str], window: Micros, evidence: dict[str, float], config: AlertConfig
) -> AlertRow:
    rounded = {name: round(value, 4) for name, value in evidence.items()}
    return AlertRow(kind, *subject, window + config.window, json.dumps(rounded))
