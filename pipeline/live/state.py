"""What the threads of one endless run in this process share: when to stop, and what was done so far.

The engine runs one bundle at a time, so the reader's first call in a bundle is the moment at which
all that the bundle before it did is done: only then does it count, and only then, or while the
reader waits for its first record, is a picture of the whole run taken.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from models.records import Micros, TopK
from models.tables import ScoredRow
from models.times import wall_clock
from models.trends import TrendKey, TrendSum, merge_trends, trend_parts
from pipeline.inputs.growing_files import Place
from pipeline.live.freshness import EventFreshness

TRENDS_LATE: Final = "note.too_late_for_trends"  # accepted feedback whose window is no longer summed


class Done(NamedTuple):
    """All that the bundles up to one did."""

    bundle: int
    cursor: dict[str, Place]  # how far the log was read
    books: Counter[str]
    trends: dict[TrendKey, TrendSum]
    newest: Micros  # the clock of the run: event_time that was accepted, not ahead of the wall clock
    trends_from: Micros  # windows that began earlier are no longer summed


@dataclass
class LiveState:
    """One run. `stop` asks for a drain: what is there is read to its end, then the reader reports the end."""

    stop: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)  # files are followed from now on
    caught_up: threading.Event = field(default_factory=threading.Event)  # all that was there is in lists
    freshness: EventFreshness = field(default_factory=EventFreshness)
    lists: int = 0
    busy_seconds: float = 0.0  # in bundles, from their first record on
    snapshot_time: float | None = None  # seconds since 1970
    unfinished: tuple[str, ...] = ()  # files whose last line has no end, at the drain
    on_list: Callable[[TopK], None] | None = None  # is told each list, in the engine's thread
    indexed: frozenset[str] = frozenset()  # the items that the newest index knows
    new_items: set[str] = field(default_factory=set)  # of accepted feedback, that it does not
    unlisted: Callable[[], bool] = lambda: False  # whether users have no list, for no item is known
    outboxes: tuple[Path, ...] = ()  # of the sinks, which get each shard
    bundle: int = 1  # the number of the one that runs
    moved: int = 0  # the last one that read something
    last_read: float = 0.0  # seconds since 1970, when a bundle last found a record
    cursor: dict[str, Place] = field(default_factory=dict)  # of the bundles that are done
    _open: Counter[str] = field(default_factory=Counter)  # the books of the bundle that runs
    _done: Counter[str] = field(default_factory=Counter)
    _rows: list[ScoredRow] = field(default_factory=list)  # accepted by the bundle that runs
    _trends: dict[TrendKey, TrendSum] = field(default_factory=dict)
    _newest: Micros = 0
    _trends_from: Micros = 0
    _window: Micros = 0  # of the trends; 0: none
    _bundle_began: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _boundary: threading.Condition = field(default_factory=threading.Condition)
    _wanted: Callable[[Done], None] | None = None
    _over: bool = False  # no bundle will end any more

    def resume(self, done: Done, window: Micros) -> None:
        """Goes on where another process was."""
        self.bundle, self.cursor = done.bundle + 1, dict(done.cursor)
        self.moved = done.bundle  # who reads behind has that to look at
        self._done, self._trends, self._newest = Counter(done.books), dict(done.trends), done.newest
        self._trends_from, self._window = done.trends_from, window

    def count(self, code: str, records: int) -> None:
        """Counts what a step of the bundle that runs did."""
        self._open[code] += records

    def accepted(self, row: ScoredRow) -> None:
        """An event came to count in the bundle that runs."""
        self._rows.append(row)
        if row.item_id is not None and row.item_id not in self.indexed:
            self.new_items.add(row.item_id)

    def begin_bundle(self, cursor: Mapping[str, Place]) -> None:
        """The bundle before is done: what it counted counts. `cursor` is how far it has read."""
        self._note_served()
        with self._lock:
            self._done.update(self._open)
            self._open = Counter()
            self._join_trends()
        with self._boundary:
            if cursor != self.cursor:
                self.cursor, self.moved = dict(cursor), self.bundle
            self.bundle += 1
            self._boundary.notify_all()
        self.between_bundles()

    def _note_served(self) -> None:
        if self._bundle_began:
            now = time.time()
            self.busy_seconds += max(0.0, now - self._bundle_began)
            self.freshness.served(self._rows, self._bundle_began, now, self.unlisted())
            self._bundle_began = 0.0

    def between_bundles(self) -> None:
        """Called by the reader where no bundle has work in hand: takes the picture that was asked for."""
        with self._boundary:
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                wanted(self._picture())
                self._boundary.notify_all()

    def between(self, take: Callable[[Done], None], timeout: float) -> bool:
        """Runs `take` between two bundles, in the engine's thread; False when none ended in time."""
        with self._boundary:
            self._wanted = take
            self._boundary.wait_for(lambda: self._over or self._wanted is not take, timeout)
            taken = self._wanted is not take
            self._wanted = None
            return taken

    def end(self) -> None:
        """The pipeline has ended: who waits between two bundles goes on without."""
        self.begin_bundle(self.cursor)
        with self._boundary:
            self._over = True
            self._boundary.notify_all()

    def picture(self) -> Done:
        """What is done, when no bundle runs any more."""
        return self._picture()

    def await_bundle(self, after: int, timeout: float) -> int:
        """Waits for a bundle beyond `after` to read something; returns the last that did."""
        with self._boundary:
            self._boundary.wait_for(lambda: self.moved > after, timeout)
            return self.moved

    def _picture(self) -> Done:
        return Done(
            self.bundle - 1, self.cursor, self.books(), dict(self._trends), self._newest, self._trends_from
        )

    def _join_trends(self) -> None:
        if not self._rows:
            return
        now = wall_clock()
        for row in self._rows:
            self._newest = max(self._newest, min(row.event_time, now))
            parts = trend_parts(row, self._window) if self._window else []
            summed = [part for part in parts if part[0].window_start >= self._trends_from]
            merge_trends(self._trends, summed)
            if parts and not summed:
                self._done[TRENDS_LATE] += 1
        self._rows = []

    def forget_trends(self, before: Micros) -> None:
        """Frees the sums of windows that began earlier; call it between bundles."""
        self._trends_from = max(self._trends_from, before)
        for key in [key for key in self._trends if key.window_start < before]:
            del self._trends[key]

    def learned(self, items: Iterable[str]) -> None:
        """A new index is published, which knows these items."""
        self.indexed = frozenset(items)
        self.new_items = {item for item in self.new_items.copy() if item not in self.indexed}

    def read_first(self, at: float) -> None:
        """The bundle reads its first record, at `at` seconds of the wall clock."""
        self._bundle_began = self.last_read = at

    def listed(self, made: TopK) -> None:
        """A list came out."""
        self.lists += 1
        if self.on_list is not None:
            self.on_list(made)

    def books(self) -> Counter[str]:
        """What the bundles that are done did with their records: code -> count."""
        with self._lock:
            return Counter(self._done)


_states: Final[dict[str, LiveState]] = {}


def live_state(run_id: str) -> LiveState:
    """The state of a run in this process, made when first asked for."""
    return _states.setdefault(run_id, LiveState())


def forget_state(run_id: str) -> None:
    """Frees what a run that has ended left here."""
    _states.pop(run_id, None)
