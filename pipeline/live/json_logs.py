"""Logs as one JSON object a line: time, level, logger, message. Records of feedback are never logged."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from pipeline.live.told import told_error

_LOG: Final = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """What log collectors read."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            told["error"] = record.exc_info[0].__name__
        return json.dumps(told, ensure_ascii=False)


def failure_line(message: str) -> str:
    """The line that says why a command ended, as the others are."""
    return JsonFormatter().format(logging.LogRecord("livelist", logging.ERROR, "", 0, message, None, None))


@contextmanager
def strays_logged() -> Iterator[None]:
    """What Python would print as a traceback, of a thread or a destructor, is a line of the log instead."""

    def in_thread(stray: threading.ExceptHookArgs) -> None:
        if stray.exc_value is not None:
            name = stray.thread.name if stray.thread else "a thread"
            _LOG.error("%s ended: %s", name, told_error(stray.exc_value))

    def nowhere(stray: sys.UnraisableHookArgs) -> None:
        if stray.exc_value is not None:
            _LOG.error("an error that nobody could catch: %s", told_error(stray.exc_value))

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = in_thread, nowhere
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before
