"""Waiting for other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def await_that(reached: Callable[[], object], seconds: float = 60) -> None:
    """Waits until it is so; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)
