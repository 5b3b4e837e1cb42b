"""What the threads of one endless run in this process share: when to stop, and what was done so far.

The engine runs one bundle at a time, so the reader's first call in a bundle is the moment at which
all that the bundle before it did is done: only then does it count.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from models.records import MICROS_PER_SECOND, Micros

_SAMPLES: Final = 20_000  # lists whose freshness is remembered


@dataclass
class LiveState:
    """One run. `stop` asks for a drain: what is there is read to its end, then the reader reports the end."""

    stop: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)  # files are followed from now on
    caught_up: threading.Event = field(default_factory=threading.Event)  # all that was there is in lists
    freshness: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))  # seconds
    lists: int = 0
    snapshot_time: float | None = None  # seconds since 1970
    unfinished: tuple[str, ...] = ()  # files whose last line has no end, at the drain
    _open: Counter[str] = field(default_factory=Counter)  # the books of the bundle that runs
    _done: Counter[str] = field(default_factory=Counter)
    _bundle_began: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, code: str, records: int) -> None:
        """Counts what a step of the bundle that runs did."""
        self._open[code] += records

    def begin_bundle(self) -> None:
        """The bundle before is done: what it counted counts."""
        with self._lock:
            self._done.update(self._open)
            self._open = Counter()

    def read_first(self, at: float) -> None:
        """The bundle reads its first record, at `at` seconds of the wall clock."""
        self._bundle_began = at

    def listed(self, emitted: Micros) -> None:
        """A list came out; it is as fresh as the bundle's first record is old, or fresher."""
        self.lists += 1
        self.freshness.append(emitted / MICROS_PER_SECOND - self._bundle_began)

    def freshness_quantiles(self) -> tuple[float, float] | None:
        """Half of the recent lists were at most so many seconds old when they came out, and 95%."""
        samples = sorted(self.freshness.copy())
        if not samples:
            return None
        return samples[len(samples) // 2], samples[len(samples) * 95 // 100]

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
