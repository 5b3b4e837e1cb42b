"""Errors as they may stand in a log: what third parties raise may quote a text, so it is not repeated."""

from __future__ import annotations

import traceback

from models.errors import LivelistError


def told_error(error: BaseException) -> str:
    """The message of an error of ours or of the system; of others the kind, and the place that raised it."""
    if isinstance(error, LivelistError | OSError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
