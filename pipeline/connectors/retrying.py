"""Trying again: with growing pauses, for a bounded time, and then an OutputError that says why."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from models.errors import OutputError

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LOGGER: Final = logging.getLogger(__name__)

Result = TypeVar("Result")


class RefusedRowsError(OutputError):
    """The sink will never take these rows, however often they are sent: too long, or of a kind it lacks."""


def try_again(
    attempt: Callable[[], Result],
    passing: tuple[type[BaseException], ...],
    seconds: float,
    what: str,
    describe: Callable[[BaseException], str] = str,
) -> Result:
    """The first result. Errors of `passing` are tried again for `seconds`, then raised as OutputError."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return attempt()
        except passing as error:
            if time.monotonic() + pause > deadline:
                raise OutputError(f"{what}: {describe(error)}; gave up after {seconds:g} s") from error
            _LOGGER.info("%s: %s; trying again", what, describe(error))
            # Several writers that failed together do not come back together.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
