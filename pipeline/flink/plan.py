"""How a job runs on a cluster: what `livelist flink submit` asks besides the job's flags. No Beam here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from models.errors import UsageError

#: An idle reader of files rests so long between two looks.
POLL_SECONDS: Final = 0.05
#: A drain waits so long; one checkpoint alone may take three minutes before it is given up.
DRAIN_SECONDS: Final = 600.0
#: Above it some starts gave no output at all, without an error.
_MOST_BUNDLE_MILLIS: Final = 500


@dataclass(frozen=True, slots=True)
class FlinkPlan:
    """How a job runs."""

    name: str = "livelist"
    parallelism: int = 1
    bundle_millis: int = 50
    bundle_size: int = 1_000
    poll_seconds: float = POLL_SECONDS
    spread: bool = True
    checkpoint_millis: int | None = None  # None: the cluster's
    metrics_port: int | None = None  # where its steward serves them; None: nowhere
    metrics_host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name):
            raise UsageError(f"--name: expected up to 40 letters, digits, - and _, got {self.name!r}")
        if self.parallelism < 1:
            raise UsageError(f"--parallelism must be at least 1, got {self.parallelism}")
        if not 1 <= self.bundle_millis <= _MOST_BUNDLE_MILLIS:
            raise UsageError(
                f"--bundle_millis must be from 1 to {_MOST_BUNDLE_MILLIS}, got {self.bundle_millis}: with "
                "more, some jobs start on Flink and never give any output"
            )
        if self.poll_seconds <= 0:
            raise UsageError(f"--poll_seconds must be above 0, got {self.poll_seconds:g}")
