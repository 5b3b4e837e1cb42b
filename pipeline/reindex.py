"""The item index of an endless run: learned from the log by the pure core, again and again.

A process of its own does it, at a lower priority, so that lists do not wait for it. Each time it
reads the whole log, views every user and scores only texts that it has not met before; it holds
those scores. So a rebuild costs what a bounded run over the log costs without its lists. It rests
four times as long as the last rebuild took, whatever --reindex_every_seconds says.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from models.encoder.scorer import ScoringResult
from models.errors import DeploymentError, InputError
from models.ranking.index import ItemIndex, build_index, publish_index, read_pointer
from models.ranking.log import encode_log
from models.records import Item
from models.views import UserView
from pipeline.config import JobConfig
from pipeline.history import load_history, score_texts, vectors_of
from pipeline.inputs import followed_files
from pipeline.reading import read_items
from transforms.build_index import TextVector, item_text

_REST: Final = 4.0  # of the last rebuild's duration
#: A young log is learned anew, besides, when it has grown so much, but not sooner than so many seconds.
_GROWTH: Final = 1.5
_SOONEST_SECONDS: Final = 2.0
_NICENESS: Final = 5
_START: Final = """
import logging, sys
logging.getLogger().setLevel(logging.CRITICAL)  # its failures are answers; the rest is third parties'
from multiprocessing.connection import Connection
from pipeline.reindex import serve_rebuilds
serve_rebuilds(Connection(int(sys.argv[1])))
"""
_LOG: Final = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """What one rebuild came to."""

    version: str  # of the published index; empty when it failed
    items: int
    seconds: float
    error: str = ""


def rebuild_index(config: JobConfig, known: dict[str, ScoringResult] | None = None) -> Path:
    """Learns the index of the log as it is now, publishes it, and returns its folder.

    Without feedback it knows the catalogue only. Raises LivelistError.
    """
    views, items, vectors, clock = _learned_from(config, {} if known is None else known)
    build = Path(config.output) / "index" / f".build-{secrets.token_hex(6)}"
    try:
        build_index([encode_log(views)], items, vectors, config.index, clock, build)
        return publish_index(Path(config.output), build)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _learned_from(
    config: JobConfig, known: dict[str, ScoringResult]
) -> tuple[list[UserView], list[Item], list[TextVector], int]:
    try:
        history = load_history(config, known=known)
        return history.views(), history.items, history.vectors, history.clock
    except InputError:  # nothing accepted yet
        catalogue = read_items(config.items, config.form) if config.items else ()
        items = [item for item in catalogue if isinstance(item, Item)]
        scores = score_texts(config, map(item_text, items), known)
        return [], items, vectors_of(scores, items), 0


class Reindexer(AbstractContextManager["Reindexer"]):
    """Rebuilds the index while a run goes on. What fails is logged and counted, and tried again later."""

    def __init__(self, config: JobConfig, stop: threading.Event) -> None:
        self._config = config
        self._stop = stop
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reindex", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._bytes = 0  # of the log at the last rebuild
        self._ended = 0.0
        self.rebuilds = 0
        self.failures = 0
        self.error = "the run ended"  # of the last failure
        self.last: Rebuilt | None = None

    def publish_first(self) -> None:
        """Returns when an index is published that knows items, or when the run is to stop.

        With --reindex_every_seconds 0 that is the one that is published already, if one is. Raises
        DeploymentError when that is not sound, or the log's cannot be built.
        """
        _clear_builds(self._config)
        published = read_pointer(Path(self._config.output))
        if published is not None and not self._config.reindex_every_seconds:
            ItemIndex.open(published)
            return
        while True:
            rebuilt = self._rebuild()
            if rebuilt is None:
                raise DeploymentError(f"the item index cannot be built: {self.error}")
            if rebuilt.items or self._stop.is_set():
                return
            self._await_growth()

    def __enter__(self) -> Reindexer:
        if self._config.reindex_every_seconds:
            self._thread.start()
        else:
            self._end_process()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_process()

    def _run(self) -> None:
        while not self._closing.wait(1.0):
            try:
                if self._due():
                    self._rebuild()
            except Exception as error:  # whatever it is, the job goes on with the index that it has
                self._failed(repr(error))

    def _due(self) -> bool:
        rested = time.monotonic() - self._ended
        took = self.last.seconds if self.last else 0.0
        if self._stop.is_set() or rested < max(_SOONEST_SECONDS, _REST * took):
            return False
        size = log_bytes(self._config)
        if rested >= self._config.reindex_every_seconds:
            return size != self._bytes
        return size >= _GROWTH * self._bytes

    def _await_growth(self) -> None:
        while not self._stop.wait(0.2):
            if log_bytes(self._config) != self._bytes:
                return

    def _rebuild(self) -> Rebuilt | None:
        """One rebuild in the other process; None when it failed."""
        size = log_bytes(self._config)
        try:
            rebuilt = self._ask()
        except (EOFError, OSError) as error:
            rebuilt = Rebuilt("", 0, 0.0, f"its process ended ({error!r})")
            self._end_process()
        self._ended = time.monotonic()
        if rebuilt is None:
            return None
        if rebuilt.error:
            self._failed(rebuilt.error)
            return None
        self.last, self._bytes = rebuilt, size
        self.rebuilds += 1
        return rebuilt

    def _ask(self) -> Rebuilt | None:
        """The answer of the process; None when the run ends first."""
        if self._connection is None:
            self._start_process()
        assert self._connection is not None
        self._connection.send(None)
        while not self._connection.poll(0.1):
            if self._closing.is_set():
                return None
        answer = self._connection.recv()
        assert isinstance(answer, Rebuilt)
        return answer

    def _start_process(self) -> None:
        # Not multiprocessing's own start: that would run the launcher's script a second time.
        ours, theirs = multiprocessing.Pipe()
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours
        ours.send(self._config)

    def _end_process(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()  # what it was building is not published
            self._process.wait()
            _clear_builds(self._config)
        self._process = self._connection = None

    def _failed(self, error: str) -> None:
        self.failures += 1
        self.error = error
        _LOG.error("the item index was not rebuilt, the old one serves on: %s", error)


def _clear_builds(config: JobConfig) -> None:
    """Deletes what was being built when a process was killed; the folder is ours while a run goes on."""
    for left in (Path(config.output) / "index").glob(".*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def log_bytes(config: JobConfig) -> int:
    """How long the log and the catalogue are now."""
    total = 0
    for path in (*followed_files(config.inputs), *config.items):
        try:
            total += os.path.getsize(path)
        except OSError:
            continue
    return total


def serve_rebuilds(connection: Connection) -> None:
    """The process: the job's configuration, then one rebuild for each message, until its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the parent, which ends this process
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    logging.getLogger().setLevel(logging.ERROR)
    known: dict[str, ScoringResult] = {}
    try:
        config: JobConfig = connection.recv()
        while True:
            connection.recv()
            connection.send(_served(config, known))
    except (EOFError, OSError):
        return


def _served(config: JobConfig, known: dict[str, ScoringResult]) -> Rebuilt:
    began = time.monotonic()
    try:
        index = ItemIndex.open(rebuild_index(config, known))
    except Exception as error:
        return Rebuilt("", 0, time.monotonic() - began, f"{type(error).__name__}: {error}")
    return Rebuilt(index.version, index.items, time.monotonic() - began)
