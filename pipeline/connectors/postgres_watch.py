"""Watch: ends the wait for an answer that never comes."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any

import psycopg


class Watch(AbstractContextManager["Watch"]):
    """Breaks a connection on which nothing moves for so long: an answer may be lost for ever."""

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self._handle = os.dup(connection.fileno())
        self._seconds = seconds
        self._moved = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postgres-watch", daemon=True)

    def moves(self) -> None:
        """Something was sent or answered."""
        self._moved = time.monotonic()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        os.close(self._handle)

    def _run(self) -> None:
        while (left := self._moved + self._seconds - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        with suppress(OSError), socket.socket(fileno=os.dup(self._handle)) as stuck:
            stuck.shutdown(socket.SHUT_RDWR)
