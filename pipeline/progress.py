"""How far the work in this process has come: its steps advance it, a display reads it.

Steps that an engine runs in other processes advance nothing here; a display then shows no counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

READING: Final = "reading"
READING_AND_SCORING: Final = "reading and scoring"  # one step of a job
READING_ITEMS: Final = "reading the items"
JOINING: Final = "joining by user"
LEARNING: Final = "learning the index"
RANKING: Final = "making lists"
WRITING: Final = "writing the tables"
SCORING: Final = "scoring texts"
PREDICTING: Final = "predicting"
EVALUATION_STAGES: Final = (READING, READING_ITEMS, SCORING, JOINING, PREDICTING)

#: The stages of a bounded run, in the order in which an engine in this process runs them.
JOB_STAGES: Final = (READING_AND_SCORING, READING_ITEMS, JOINING, LEARNING, RANKING, WRITING)
#: Below, a guess at the time left would jump.
_LEAST_SHARE: Final = 0.02
_LEAST_SECONDS: Final = 1.0


@dataclass(slots=True)
class Progress:
    """The stage that runs, how much of it is done, and what was counted since the beginning."""

    stages: tuple[str, ...] = ()  # those to come, where they are known
    stage: str = ""
    done: float = 0.0  # of `total`, in whatever the stage is measured by
    total: float = 0.0  # 0: not known
    counts: Counter[str] = field(default_factory=Counter)  # "records", "users", "lists" ... so far
    texts: Callable[[], int] | None = None  # texts scored so far
    _entered: float = 0.0  # seconds of the monotonic clock

    def begin(self, *stages: str) -> None:
        """Forgets what was before."""
        self.stages, self.stage, self.done, self.total = stages, "", 0.0, 0.0
        self.counts, self.texts = Counter(), None

    def enter(self, stage: str, total: float = 0.0) -> None:
        """A stage begins; nothing happens where it has begun."""
        if stage != self.stage:
            self.stage, self.done, self.total = stage, 0.0, total
            self._entered = time.monotonic()

    def advance(self, done: float) -> None:
        """So much more of the stage is done."""
        self.done += done

    @property
    def share(self) -> float | None:
        """What part of the stage is done, from 0 to 1; None where that is not known."""
        return min(1.0, self.done / self.total) if self.total > 0 else None

    def seconds_left(self) -> float | None:
        """How long the stage will go on at its pace so far; None before that can be told."""
        share, gone = self.share, time.monotonic() - self._entered
        if share is None or share < _LEAST_SHARE or gone < _LEAST_SECONDS:
            return None
        return gone * (1 - share) / share

    @property
    def number(self) -> str:
        """Which of the stages runs, such as "2/6"; empty where they are not known."""
        if self.stage not in self.stages:
            return ""
        return f"{self.stages.index(self.stage) + 1}/{len(self.stages)}"

    def counted(self) -> list[str]:
        """What was counted, in words for people."""
        texts = self.texts() if self.texts else 0
        told = [f"{count:,} {what}" for what, count in self.counts.items()]
        return [*told[:1], f"{texts:,} texts", *told[1:]] if texts else told


#: Of this process.
PROGRESS: Final = Progress()
