"""A thread that pulls a source into a spool, and acknowledges what is on disk."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from models.errors import LivelistError
from models.records import Micros
from pipeline.connectors.base import PullSource
from pipeline.live.spool import Spool
from pipeline.live.told import told_error

_MESSAGES: Final = 1_000
_POLL_SECONDS: Final = 0.2
_BACKLOG_SECONDS: Final = 5.0
_LOG: Final = logging.getLogger(__name__)


class Puller(AbstractContextManager["Puller"]):
    """Pulls from entering to `drain`. An error of the source or the disk ends it and stays in `error`."""

    def __init__(self, source: PullSource, spool: Spool, failed: threading.Event) -> None:
        self._source = source
        self._spool = spool
        self._failed = failed  # set when the thread ends with an error
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)
        self.received = 0
        self.backlog: int | None = None  # at the broker, when last asked
        self.oldest_held: Micros | None = None  # when it was published, at the last look
        self.error: LivelistError | None = None

    def __enter__(self) -> Puller:
        """Raises InputError or DeploymentError where the source cannot be opened."""
        self._source.open(None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        self._spool.close()

    @property
    def repeated(self) -> int:
        """Deliveries of messages that were here already."""
        return self._spool.repeated

    def drain(self) -> None:
        """Pulls no more; what was pulled is on disk when this returns."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            asked = float("-inf")
            while not self._ending.is_set():
                self._pull()
                self.oldest_held = self._source.oldest_held()
                if time.monotonic() - asked >= _BACKLOG_SECONDS:
                    asked, self.backlog = time.monotonic(), self._source.backlog()
        except LivelistError as error:
            self._fail(error)
        except Exception as error:  # a thread must not die in silence
            self._fail(LivelistError(f"the source failed: {told_error(error)}"))
        finally:
            self._source.close()

    def _pull(self) -> None:
        messages = self._source.poll(_MESSAGES, _POLL_SECONDS)
        if messages:
            self.received += self._spool.append(messages)
            self._source.commit([message.receipt for message in messages])

    def _fail(self, error: LivelistError) -> None:
        _LOG.error("%s", error)
        self.error = error
        self._failed.set()
